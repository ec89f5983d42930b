# SPDX-License-Identifier: Apache-2.0
"""novakmsctl against a real node: what it prints, byte for byte, and its exit codes."""
import base64
import json
import os
import re
import socket
import subprocess

import pytest

import harness
from harness import ROOT, program

DONE, OTHER, USAGE, NOT_FOUND, PERMISSION, UNAVAILABLE = range(6)
COMMANDS = ["derive", "put", "get", "delete", "list", "whoami", "status", "nodes", "identity"]
BINARY = bytes(range(256)) + b"\n\0\n"


def run(*arguments, stdin=b"", **env):
    return subprocess.run([program("novakmsctl")] + list(map(os.fsencode, map(str, arguments))),
                          input=stdin, capture_output=True, timeout=harness.DEADLINE_S, check=False,
                          env=harness.plain_environment(env))


@pytest.fixture
def ctl(node):
    def call(*arguments, code=DONE, **options):
        done = run("--dev-dir", node.dir, *arguments, **options)
        assert done.returncode == code, (done.returncode, done.stderr)
        assert_one_sentence(done, code)
        return done.stdout

    return call


def assert_one_sentence(done, code):
    if code == DONE:
        assert done.stderr == b""
    else:
        assert re.fullmatch(rb"novakmsctl: [^\n]+\n", done.stderr), done.stderr


def fails(code, *arguments, **options):
    done = run(*arguments, **options)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert_one_sentence(done, code)
    return done.stderr.decode()


def as_json(output):
    assert output.count(b"\n") == 1 and output.endswith(b"\n")
    return json.loads(output)


# --- keys --------------------------------------------------------------------------------------------

def test_derive_formats(ctl):
    hexed = ctl("derive", "p", "--format", "hex")
    assert re.fullmatch(rb"[0-9a-f]{64}\n", hexed)
    key = bytes.fromhex(hexed.decode())
    assert ctl("derive", "p") == hexed
    assert ctl("derive", "p", "--format", "raw") == key
    assert ctl("derive", "p", "--format=base64") == base64.b64encode(key) + b"\n"
    assert as_json(ctl("derive", "p", "--json")) == {"key": key.hex(), "format": "hex"}
    assert as_json(ctl("derive", "p", "--json", "--format", "base64")) == {
        "key": base64.b64encode(key).decode(), "format": "base64"}


@pytest.mark.parametrize("length", [1, 32, 33, 1024])
def test_derive_length(ctl, length):
    assert len(ctl("derive", "p", "--length", length, "--format", "raw")) == length


def test_derive_context_and_kdf(ctl):
    assert ctl("derive", "a", "--context", "b") == ctl("derive", "a:b")
    assert ctl("derive", "a", "--context", "b", "--kdf", "nova-v1") == ctl("derive", "a:b")
    assert ctl("derive", "a", "--context", "b", "--kdf", "nova-v2") != ctl(
        "derive", "a:b", "--kdf", "nova-v2")
    assert ctl("derive", "a", "--context", "") == ctl("derive", "a")


def test_derive_refused_by_the_node(ctl):
    ctl("derive", " ", code=USAGE)
    ctl("derive", "data_key", code=USAGE)


# --- values ------------------------------------------------------------------------------------------

def test_values_are_bytes(ctl, tmp_path):
    file = tmp_path / "in"
    file.write_bytes(BINARY)
    assert ctl("put", "from-file", "--file", file) == b""
    assert ctl("get", "from-file") == BINARY
    assert ctl("put", "from-stdin", "-", stdin=BINARY) == b""
    assert ctl("get", "from-stdin") == BINARY
    assert ctl("put", "argument", "text without newline") == b""
    assert ctl("get", "argument") == b"text without newline"
    ctl("put", "hexed", BINARY.hex(), "--format", "hex")
    assert ctl("get", "hexed", "--format", "hex") == BINARY.hex().encode() + b"\n"
    ctl("put", "based", base64.b64encode(BINARY).decode(), "--format", "base64")
    assert ctl("get", "based") == BINARY
    ctl("put", "empty", "-")
    assert ctl("get", "empty") == b""
    ctl("put", "dashes", "--", "--value")
    assert ctl("get", "dashes") == b"--value"


def test_get_to_a_file(ctl, tmp_path):
    out = tmp_path / "out"
    ctl("put", "k", "-", stdin=BINARY)
    assert ctl("get", "k", "--out", out) == b""
    assert out.read_bytes() == BINARY
    assert out.stat().st_mode & 0o777 == 0o600
    ctl("get", "absent", "--out", out, code=NOT_FOUND)
    assert out.read_bytes() == BINARY, "nothing was read, so nothing may be written"
    ctl("get", "k", "--out", tmp_path / "no" / "such" / "dir", code=OTHER)


def test_get_json(ctl):
    ctl("put", "k", "-", "--ttl", "1h", stdin=BINARY)
    value = as_json(ctl("get", "k", "--json"))
    assert base64.b64decode(value["value"]) == BINARY and value["format"] == "base64"
    assert re.fullmatch("[0-9]+", value["stamp"]["hlc"])
    assert re.fullmatch("[0-9a-f]{32}", value["stamp"]["writer"])
    written_ms = int(value["stamp"]["hlc"]) >> 16
    assert value["expires_unix_ms"] == written_ms + 3600 * 1000
    stamp = as_json(ctl("put", "k", "v", "--json"))["stamp"]
    assert int(stamp["hlc"]) > int(value["stamp"]["hlc"])
    assert as_json(ctl("get", "k", "--json"))["expires_unix_ms"] == 0


@pytest.mark.parametrize("text, ms", [("1500ms", 1500), ("90s", 90000), ("10m", 600000),
                                      ("2h", 7200000), ("3650d", 3650 * 86400000)])
def test_ttl_units(ctl, text, ms):
    ctl("put", "ttl", "v", "--ttl", text)
    value = as_json(ctl("get", "ttl", "--json"))
    assert value["expires_unix_ms"] - (int(value["stamp"]["hlc"]) >> 16) == ms


@pytest.mark.parametrize("text", ["0s", "10", "m", "1.5h", "-1s", "3651d", "99999999999999999999s",
                                  "1 s", "10M", "", "1w", "0x1s"])
def test_ttl_that_is_none(ctl, text):
    ctl("put", "ttl", "v", "--ttl=" + text, code=USAGE)


def test_value_expires(ctl):
    ctl("put", "short", "v", "--ttl", "1ms")
    ctl("get", "short", code=NOT_FOUND)


def test_delete(ctl):
    ctl("put", "gone", "v")
    assert as_json(ctl("delete", "gone", "--json"))["existed"] is True
    assert as_json(ctl("delete", "gone", "--json"))["existed"] is False
    assert ctl("delete", "gone") == b""
    ctl("get", "gone", code=NOT_FOUND)


def test_value_over_the_limit(ctl, tmp_path):
    file = tmp_path / "big"
    file.write_bytes(bytes(1 << 20))
    ctl("put", "big", "--file", file)
    assert ctl("get", "big") == bytes(1 << 20)
    file.write_bytes(bytes((1 << 20) + 1))
    ctl("put", "big", "--file", file, code=OTHER)
    file.write_bytes(bytes(6 << 20))
    ctl("put", "big", "--file", file, code=OTHER)
    ctl("put", "big", "--file", tmp_path / "absent", code=OTHER)
    ctl("delete", "big")


# --- lists -------------------------------------------------------------------------------------------

def test_list(ctl):
    keys = ["list/%04d" % i for i in range(30)]
    for key in keys:
        ctl("put", key, "v")
    assert ctl("list", "--prefix", "list/") == "".join(k + "\n" for k in keys).encode()
    assert ctl("list", "--prefix", "list/", "--limit", 2) == b"list/0000\nlist/0001\n"
    assert ctl("list", "--prefix", "no such") == b""
    entries = as_json(ctl("list", "--prefix", "list/", "--limit", 1, "--json"))["entries"]
    assert [(e["key"], e["format"], e["value_bytes"]) for e in entries] == [("list/0000", "raw", 1)]
    assert as_json(ctl("list", "--prefix", "no such", "--json")) == {"entries": []}


def test_list_of_several_pages(node, ctl, app, kms):
    """More keys than one answer holds (1000)."""
    # The sample application's own wallet is the one of --dev-dir; fill through the protocol.
    keys = ["page/%05d" % i for i in range(1100)]
    secret = (node.dir / "app.key").read_text().strip()
    wallet = harness.Wallet(bytes.fromhex(secret.removeprefix("0x")))
    with node.connect(wallet) as conn:
        for start in range(0, len(keys), 256):
            conn.call("BatchPut", entries=[{"key": k.encode(), "value": b"v"}
                                           for k in keys[start:start + 256]])
        assert ctl("list", "--prefix", "page/").decode().splitlines() == keys
        assert len(ctl("list", "--prefix", "page/", "--limit", 1001).splitlines()) == 1001
        for key in keys:
            conn.call("Delete", key=key.encode())


def test_binary_keys(ctl):
    key = b"bin/\n\0\xff\\"
    ctl("put", key.hex(), "v", "--key-format", "hex")
    assert ctl("get", base64.b64encode(key).decode(), "--key-format", "base64") == b"v"
    assert ctl("list", "--prefix", "bin/") == b"bin/\\x0a\\x00\\xff\\x5c\n"
    prefix = b"bin/".hex()
    assert ctl("list", "--prefix", prefix, "--key-format", "hex") == key.hex().encode() + b"\n"
    entry, = as_json(ctl("list", "--prefix", "bin/", "--json"))["entries"]
    assert entry["format"] == "base64" and base64.b64decode(entry["key"]) == key
    ctl("put", "bin/zé", "v")
    assert ctl("list", "--prefix", "bin/z") == "bin/zé\n".encode()
    assert as_json(ctl("list", "--prefix", "bin/z", "--json"))["entries"][0]["key"] == "bin/zé"
    ctl("delete", key.hex(), "--key-format", "hex")
    ctl("delete", "bin/zé")


@pytest.mark.parametrize("name, text", [("hex", "0"), ("hex", "0g"), ("base64", "AAA"),
                                        ("base64", "AB=="), ("base64", "A==="), ("base64", "A A=")])
def test_keys_that_do_not_decode(ctl, name, text):
    ctl("get", text, "--key-format", name, code=USAGE)
    ctl("put", "k", text, "--format", name, code=USAGE)


# --- who and where -----------------------------------------------------------------------------------

def test_whoami(node, ctl):
    me = as_json(ctl("whoami", "--json"))
    wallet = run("identity", "show", node.dir / "app.key").stdout.decode().strip()
    assert me["wallet"] == wallet
    assert me["app_id"] > 0 and me["is_kms_member"] is False
    assert wallet.encode() in ctl("whoami")


def test_status_and_nodes_without_an_identity(node):
    where = ["--server", node.info["rpc"], "--server-wallet", node.wallet]
    status = run(*where, "status", "--json")
    assert status.returncode == DONE, status.stderr
    status = as_json(status.stdout)
    assert status["serving"] is True and status["wallet"] == node.wallet
    assert status["chain_id"] == harness.CHAIN_ID
    nodes = as_json(run(*where, "nodes", "--json").stdout)["nodes"]
    assert [n["wallet"] for n in nodes if n["is_self"]] == [node.wallet]
    assert node.wallet.encode() in run(*where, "nodes").stdout
    assert b"serving      yes\n" in run(*where, "status").stdout
    assert "--identity" in fails(USAGE, *where, "whoami")


def test_environment(node):
    env = {"NOVAKMS_SERVER": node.info["rpc"], "NOVAKMS_SERVER_WALLET": node.wallet,
           "NOVAKMS_IDENTITY": str(node.dir / "app.key"), "NOVAKMS_TIMEOUT": "1m",
           "NOVAKMS_CHAIN_ID": str(harness.CHAIN_ID)}
    assert run("whoami", **env).returncode == DONE
    env["NOVAKMS_SERVER_WALLET"] = "0x" + "11" * 20
    assert run("whoami", **env).returncode == PERMISSION
    assert run("whoami", "--server-wallet", node.wallet, **env).returncode == DONE
    del env["NOVAKMS_SERVER_WALLET"]
    env["NOVAKMS_REGISTRY"] = str(node.registry_path)
    assert run("whoami", **env).returncode == DONE
    assert run("whoami", NOVAKMS_DEV_DIR=str(node.dir)).returncode == DONE
    assert "NOVAKMS_TIMEOUT" in fails(USAGE, "whoami", NOVAKMS_TIMEOUT="soon")


def test_a_wallet_that_is_not_registered(node, tmp_path):
    key = tmp_path / "key"
    assert run("identity", "new", key).returncode == DONE
    assert "not registered" in fails(PERMISSION, "--dev-dir", node.dir, "--identity", key, "derive",
                                     "p")


def test_another_chain(node):
    fails(PERMISSION, "--dev-dir", node.dir, "--chain-id", "1", "whoami")


def test_nobody_listens(node):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = ["--server", "127.0.0.1:%d" % port, "--server-wallet", node.wallet]
    fails(UNAVAILABLE, *where, "status")
    done = run(*where, "status", "--json")
    assert as_json(done.stdout)["error"]["code"] == "UNAVAILABLE"
    assert_one_sentence(done, UNAVAILABLE)
    both = "127.0.0.1:%d,%s" % (port, node.info["rpc"])
    assert run("--server", both, "--server-wallet", node.wallet, "status").returncode == DONE


def test_a_server_that_says_nothing(node):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fails(UNAVAILABLE, "--server", "127.0.0.1:%d" % server.getsockname()[1], "--server-wallet",
              node.wallet, "--timeout", "100ms", "status")


def test_durability_without_peers(ctl):
    ctl("put", "k", "v", "--durability", "quorum")
    ctl("put", "k", "v", "--durability", "one-peer", code=OTHER)
    ctl("put", "k", "v", "--durability", "local")


def test_rate_limit_is_said(make_node):
    node = make_node(RATE_LIMIT_PER_MINUTE=1)
    codes = []
    for _ in range(3):
        done = run("--dev-dir", node.dir, "derive", "p", "--json")
        codes.append(done.returncode)
    assert codes[0] == DONE and codes[-1] == OTHER
    error = as_json(done.stdout)["error"]
    assert error["code"] == "RESOURCE_EXHAUSTED" and error["retry_after_ms"] > 0
    assert b"try again in" in done.stderr


def test_dev_dir_that_is_none(tmp_path):
    assert "node.json" in fails(UNAVAILABLE, "--dev-dir", tmp_path, "whoami")
    (tmp_path / "node.json").write_text('{"rpc":')
    assert "node.json" in fails(USAGE, "--dev-dir", tmp_path, "whoami")


# --- identities --------------------------------------------------------------------------------------

def test_identity(tmp_path):
    key = tmp_path / "key"
    made = run("identity", "new", key)
    assert re.fullmatch(rb"0x[0-9a-f]{40}\n", made.stdout)
    assert key.stat().st_mode & 0o777 == 0o600
    assert run("identity", "show", key).stdout == made.stdout
    assert as_json(run("identity", "show", key, "--json").stdout) == {
        "wallet": made.stdout.decode().strip(), "file": str(key)}
    secret = key.read_text().strip()
    before = key.read_bytes()
    fails(OTHER, "identity", "new", key)
    assert key.read_bytes() == before, "a key file is never overwritten"
    fails(NOT_FOUND, "identity", "show", tmp_path / "absent")
    key.chmod(0o644)
    assert secret not in fails(PERMISSION, "identity", "show", key)
    key.chmod(0o600)
    key.write_text(secret[:-2] + "zz")
    assert secret[:20] not in fails(USAGE, "identity", "show", key)


# --- usage -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["derive"], ["derive", "a", "b"], ["put", "k"], ["put"],
    ["put", "k", "v", "--file", "f"], ["put", "k", "v", "w"], ["get"], ["list", "x"], ["whoami", "x"],
    ["identity"], ["identity", "new"], ["identity", "make", "f"], ["derive", "p", "--ttl", "1s"],
    ["get", "k", "--context", "c"], ["derive", "p", "--length", "0"],
    ["derive", "p", "--length", "1025"], ["derive", "p", "--length", "x"],
    ["derive", "p", "--kdf", "nova-v3"], ["derive", "p", "--format", "text"],
    ["derive", "p", "--json", "--format", "raw"], ["get", "k", "--json", "--format", "raw"],
    ["put", "k", "v", "--durability", "all"], ["list", "--limit", "0"], ["--unknown", "whoami"],
    ["-x"], ["derive", "p", "--json=yes"], ["whoami", "--server"], ["whoami", "--chain-id", "0"],
    ["whoami", "--timeout", "0s"], ["whoami", "--timeout", "6m"], ["whoami", "--timeout", "10"],
    ["identity", "show", "f", "--server", "a:1"],
], ids=" ".join)
def test_usage(arguments, tmp_path):
    fails(USAGE, *arguments, NOVAKMS_DEV_DIR=str(tmp_path))


@pytest.mark.parametrize("arguments, missing", [
    (["whoami"], "--server"), (["whoami", "--server", "a:1"], "--server-wallet"),
    (["whoami", "--server", "a:1", "--registry", "f"], "--identity"),
    (["whoami", "--registry", "f"], "--identity"), (["whoami", "--rpc-url", "u"], "--registry"),
    (["whoami", "--rpc-url", "u", "--registry", "f"], "--registry"),
    (["whoami", "--rpc-url", "u", "--registry", "0x" + "11" * 20], "--kms-app-id"),
    (["whoami", "--registry", "0x" + "11" * 20], "--rpc-url"),
])
def test_what_is_missing_is_said(arguments, missing):
    assert missing in fails(USAGE, *arguments)


@pytest.mark.parametrize("server", ["a", "a:", ":1", "a:0", "a:65536", "a:b", "[::1:1", "a:1,"])
def test_servers_that_are_none(server):
    fails(USAGE, "--server", server, "--server-wallet", "0x" + "11" * 20, "status")


def test_help_and_version():
    text = run("--help")
    assert text.returncode == DONE and text.stderr == b""
    for command in COMMANDS:
        assert re.search(r"^  %s\b" % command, text.stdout.decode(), re.M), command
        own = run(command, "--help")
        assert own.returncode == DONE and own.stdout.startswith(b"usage: novakmsctl " +
                                                               command.encode())
    assert re.fullmatch(rb"novakmsctl \d+\.\d+\.\d+\n", run("--version").stdout)


def options_of(command):
    text = run(*command, "--help").stdout.decode()
    return set(re.findall(r"^  (--[a-z-]+)", text, re.M))


def test_the_man_page_names_everything():
    page = (ROOT / "tools/novakmsctl/novakmsctl.1").read_text().replace("\\-", "-")
    text = run("--help").stdout.decode()
    for word in COMMANDS + re.findall(r"NOVAKMS_[A-Z_]+", text):
        assert word in page, word
    for command in COMMANDS:
        for option in options_of([command]):
            assert option in page, option


def complete(*words):
    """What bash offers for the last word."""
    script = """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _novakmsctl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
        """
    done = subprocess.run(["bash", "-c", script, "bash",
                           str(ROOT / "tools/novakmsctl/novakmsctl.bash"), program("novakmsctl"),
                           *words], capture_output=True, text=True, check=True,
                          timeout=harness.DEADLINE_S)
    return done.stdout.split()


def test_completion(tmp_path):
    assert sorted(complete("")) == sorted(COMMANDS)
    assert complete("de") == ["derive", "delete"]
    assert set(complete("put", "--")) == options_of(["put"])
    assert set(complete("--")) == options_of([])
    assert complete("--server", "a:1", "who") == ["whoami"]
    assert complete("derive", "p", "--kdf", "") == ["nova-v1", "nova-v2"]
    assert complete("put", "k", "--durability", "q") == ["quorum"]
    assert complete("get", "--format", "") == ["hex", "base64", "raw"]
    assert complete("identity", "") == ["new", "show"]
    assert complete("identity", "new", str(tmp_path)) == [str(tmp_path)]


# --- outputs that cannot be written ------------------------------------------------------------------

def test_a_full_disk_is_an_error(node):
    for command in (["derive", "p"], ["status"], ["whoami", "--json"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([program("novakmsctl"), "--dev-dir", str(node.dir)] + command,
                                  stdout=full, stderr=subprocess.PIPE, check=False,
                                  timeout=harness.DEADLINE_S, env=harness.plain_environment())
        assert done.returncode == OTHER
        assert b"could not be written" in done.stderr
