# SPDX-License-Identifier: Apache-2.0
"""A server that is not who the client looks for: novakmsctl must refuse it inside the handshake,
before it shows its own certificate and before any frame."""
import json
import ssl
import subprocess
import time

import pytest

import harness
from harness import ImpostorServer, Wallet, program

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, None], ids=["1.2", "newest"])


def ctl(*arguments, **env):
    return subprocess.run([program("novakmsctl")] + list(map(str, arguments)), capture_output=True,
                          text=True, timeout=harness.DEADLINE_S, check=False,
                          stdin=subprocess.DEVNULL, env=harness.plain_environment(env))


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    path = tmp_path_factory.mktemp("identity") / "key"
    done = ctl("identity", "new", path)
    assert done.returncode == 0, done.stderr
    return path


def ask(server, identity, wallet):
    return ctl("--server", "%s:%d" % server.address, "--server-wallet", wallet, "--identity",
               identity, "derive", "p")


def assert_nothing_was_sent(server, done):
    assert done.returncode not in (0, 2), done.stdout
    assert done.stdout == ""
    assert done.stderr.strip(), "an error is a sentence"
    assert server.connections >= 1
    assert server.certificates == 0, "the client showed its certificate"
    assert server.received == b"", "the client wrote a frame"


@VERSIONS
def test_another_wallet_than_the_pinned_one(identity, version):
    with ImpostorServer(Wallet().pem(), version) as server:
        done = ask(server, identity, Wallet().text)
        assert_nothing_was_sent(server, done)


@VERSIONS
@pytest.mark.parametrize("what", ["no binding", "expired", "over 24 h", "other chain", "other key",
                                  "other signer", "critical", "noise", "not yet valid"])
def test_a_bad_binding_of_the_pinned_wallet(identity, version, what):
    wallet, now = Wallet(), int(time.time())
    changes = {
        "no binding": {"oid": None},
        "expired": {"not_before": now - 7200, "not_after": now - 3600},
        "not yet valid": {"not_before": now + 3600, "not_after": now + 7200},
        "over 24 h": {"not_before": now - 10, "not_after": now + 86400},
        "other chain": {"chain_id": 1},
        "other key": {"claimed_key": harness.ec.generate_private_key(harness.ec.SECP256R1())},
        "other signer": {"signer": Wallet()},
        "critical": {"critical": True},
        "noise": {"value": b"\xff" * 50},
    }[what]
    with ImpostorServer(wallet.pem(**changes), version) as server:
        assert_nothing_was_sent(server, ask(server, identity, wallet.text))


@VERSIONS
@pytest.mark.parametrize("what", ["stranger", "app", "STOPPED", "FAILED", "not verified",
                                  "version revoked", "app inactive"])
def test_a_wallet_that_the_registry_does_not_list_as_a_member(identity, tmp_path, version, what):
    """An application, or a member that lost its right, is no server, though it is registered."""
    wallet = Wallet()
    instance = {"id": 1, "appId": 101 if what == "app" else 49,
                "versionId": 2 if what == "app" else 1, "teeWalletAddress": wallet.text,
                "zkVerified": what != "not verified",
                "status": what if what in ("STOPPED", "FAILED") else "ACTIVE"}
    registry = {
        "kms_app_id": 49,
        "apps": [{"id": 49, "status": "INACTIVE" if what == "app inactive" else "ACTIVE"},
                 {"id": 101, "status": "ACTIVE"}],
        "versions": [{"id": 1, "appId": 49,
                      "status": "REVOKED" if what == "version revoked" else "ENROLLED"},
                     {"id": 2, "appId": 101, "status": "ENROLLED"}],
        "instances": [] if what == "stranger" else [instance]}
    path = tmp_path / "registry.json"
    path.write_text(json.dumps(registry))
    with ImpostorServer(wallet.pem(), version) as server:
        done = ctl("--server", "%s:%d" % server.address, "--registry", path, "--identity", identity,
                   "derive", "p")
        assert_nothing_was_sent(server, done)


def test_a_member_of_the_registry_is_accepted(identity, tmp_path):
    """The same with a good member: only the one difference above makes the client refuse."""
    wallet = Wallet()
    path = tmp_path / "registry.json"
    path.write_text(json.dumps({
        "kms_app_id": 49, "apps": [{"id": 49, "status": "ACTIVE"}],
        "versions": [{"id": 1, "appId": 49, "status": "DEPRECATED"}],
        "instances": [{"id": 1, "appId": 49, "versionId": 1, "teeWalletAddress": wallet.text,
                       "zkVerified": True, "status": "ACTIVE"}]}))
    with ImpostorServer(wallet.pem(), ssl.TLSVersion.TLSv1_2) as server:
        done = ctl("--server", "%s:%d" % server.address, "--registry", path, "--identity", identity,
                   "derive", "p")
        assert done.returncode != 0
        assert server.certificates >= 1


def test_the_fake_server_would_notice(identity):
    """The same server with the right wallet does get the certificate: the tests above can fail."""
    wallet = Wallet()
    with ImpostorServer(wallet.pem(), ssl.TLSVersion.TLSv1_2) as server:
        done = ask(server, identity, wallet.text)
        assert done.returncode != 0
        assert server.certificates >= 1


def test_a_server_that_speaks_no_tls(identity):
    listener = harness.socket.create_server(("127.0.0.1", 0))

    def talk():
        sock, _ = listener.accept()
        with sock:
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            sock.settimeout(harness.DEADLINE_S)
            with harness.contextlib.suppress(OSError):
                while sock.recv(65536):
                    pass
    thread = harness.threading.Thread(target=talk, daemon=True)
    thread.start()
    done = ctl("--server", "%s:%d" % listener.getsockname(), "--server-wallet", Wallet().text,
               "--identity", identity, "derive", "p")
    assert done.returncode not in (0, 2) and done.stderr.strip()
    listener.close()
