# SPDX-License-Identifier: Apache-2.0
"""Who a caller is: bindings that are wrong in every way, borrowed certificates, and TLS that tries
what is not offered."""
import random
import re
import socket
import ssl
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import harness
import minimal_client
from harness import (CHAIN_ID, INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED, CallError,
                     Closed, Conn, Wallet, fails)


def refusal(node, pem):
    """(code, sentence) with which a connection with this certificate is refused."""
    with Conn(node.rpc, pem=pem) as conn:
        try:
            conn.call("WhoAmI")
        except CallError as error:
            return error.code, error.message
        except Closed as closed:
            if closed.goaway is None:
                raise  # Closed without a word.
            return closed.goaway.status, closed.goaway.reason
    return None


def is_accepted(node, pem):
    return refusal(node, pem) is None


def test_a_good_binding(node, app):
    assert is_accepted(node, app.pem())


@pytest.mark.parametrize("span_s", [1, 60, 86400])
def test_lifetimes_that_are_allowed(node, app, span_s):
    now = int(time.time())
    # Ends well ahead, begins at most a day before that.
    end = now + min(span_s, 3600) if span_s > 1 else now + 4
    assert is_accepted(node, app.pem(not_before=end - span_s, not_after=end))


def test_v_of_0_and_1(node, app):
    assert is_accepted(node, app.pem(v_offset=-27))


NOW = int(time.time())
HOUR = 3600


def other_key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("changes", [
    {"chain_id": CHAIN_ID + 1},
    {"chain_id": 0},
    {"not_before": NOW - 2 * HOUR, "not_after": NOW - HOUR},         # Expired.
    {"not_before": NOW - 2 * HOUR, "not_after": NOW - 60},
    {"not_before": NOW + HOUR, "not_after": NOW + 2 * HOUR},         # Not yet valid.
    {"not_before": NOW - 10, "not_after": NOW - 10 + 86401},         # Over 24 h.
    {"not_before": NOW - 10, "not_after": NOW - 10 + 30 * 86400},
    {"not_before": NOW - 86400 * 365, "not_after": NOW + 86400 * 365},
    {"not_before": 0, "not_after": 2 ** 32 - 1},
    {"claimed_key": "other"},                                        # For another key.
    {"signer": "other"},                                             # By another wallet.
    {"wallet": b"\1" * 20},
    {"certificate_dates": (NOW - 100, NOW + HOUR)},                  # Dates that differ.
    {"certificate_dates": (NOW - 10, NOW + 2 * HOUR)},
    {"signature": b"\0" * 65},
    {"signature": b"\xff" * 65},
    {"signature": b"\1" * 64},
    {"signature": b"\1" * 66},
    {"signature": b""},
    {"wallet": b"\1" * 19},
    {"wallet": b"\1" * 21},
    {"wallet": b""},
    {"v_offset": 2},
    {"v_offset": 200},
    {"value": b""},
    {"value": b"\0"},
    {"value": b"\xff" * 101},
    {"value": random.Random(1).randbytes(101)},
    {"value": b"\x0a" * 4096},
    {"critical": True},
    {"oid": None},                                                   # A certificate without one.
    {"oid": "1.2.3.4"},
    {"tls_key": "p384"},
], ids=lambda c: "%s=%s" % (next(iter(c)), str(next(iter(c.values())))[:24]))
def test_a_bad_binding(node, app, changes):
    changes = dict(changes)
    if changes.get("claimed_key"):
        changes["claimed_key"] = other_key()
    if changes.get("signer"):
        changes["signer"] = Wallet()
    if changes.get("tls_key"):
        changes["tls_key"] = ec.generate_private_key(ec.SECP384R1())
    try:
        code, reason = refusal(node, app.pem(**changes))
    except (ssl.SSLError, ConnectionResetError, Closed):
        # TLS itself may refuse these; with TLS 1.3 the client's handshake is over by then.
        assert "tls_key" in changes or "critical" in changes
        return
    assert code in (UNAUTHENTICATED, PERMISSION_DENIED), reason
    assert len(reason) > 10


def test_the_clock_skew_is_allowed(node, app):
    now = int(time.time())
    assert is_accepted(node, app.pem(not_before=now + 2, not_after=now + HOUR))


def test_trailing_bytes_and_a_second_binding(node, app):
    binding = harness.Binding(app)
    binding.value = binding.extension() + b"\x28\x01"
    assert refusal(node, binding.make())[0] == UNAUTHENTICATED
    binding = harness.Binding(app)
    binding.value = binding.extension()
    binding.extensions = [(harness.OID.replace("1.2.840", "1.3.840"), b"x")]
    assert is_accepted(node, binding.make())  # Unknown extensions are nobody's business.


def test_a_high_s_signature(node, app):
    binding = harness.Binding(app)
    good = app.sign(binding.text())
    order = harness.ecdsa.SECP256k1.order
    s = order - int.from_bytes(good[32:64], "big")
    binding.signature = good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]])
    assert refusal(node, binding.make())[0] == UNAUTHENTICATED


def test_a_borrowed_certificate(node, app, tmp_path):
    """Somebody's certificate without its key is worth nothing: TLS proves the key."""
    stolen = app.pem().split(b"-----BEGIN PRIVATE KEY")[0]
    context = harness.tls_context()
    (tmp_path / "cert").write_bytes(stolen)
    (tmp_path / "key").write_bytes(harness.pem_of_key(other_key()))
    with pytest.raises(ssl.SSLError):  # Python's library does not even send it,
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    forged = harness.Binding(app)      # so: its binding, word for word, in our own certificate.
    forged.value = harness.Binding(app).extension()
    code, _ = refusal(node, forged.make())
    assert code == UNAUTHENTICATED


def test_an_unregistered_wallet(node):
    code, reason = refusal(node, Wallet().pem())
    assert code == PERMISSION_DENIED and "not registered" in reason


def test_a_refused_caller_is_told_and_cut_off(node):
    with Conn(node.rpc, pem=Wallet().pem()) as conn:
        goaway = conn.drain()
        assert goaway.status == PERMISSION_DENIED and goaway.last_call_id == 0


def test_an_identity_ends_with_its_binding(node, app):
    """Also on a connection that is open."""
    now = int(time.time())
    with Conn(node.rpc, pem=app.pem(not_before=now - 10, not_after=now + 2)) as conn:
        conn.call("WhoAmI")
        conn.drain()  # Must end; the deadline is the socket's.
        assert time.time() >= now + 2


# --- TLS ---------------------------------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions(node):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            context = harness.tls_context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            Conn(node.rpc, context=context)
    with node.connect() as conn:
        assert conn.tls.version() in ("TLSv1.2", "TLSv1.3")
        assert "AES" in conn.tls.cipher()[0] and "256" in conn.tls.cipher()[0]


def test_the_newest_version_of_the_library(node):
    """mbedTLS 3.6 has TLS 1.3; the floor stays open to those who have only 1.2."""
    with Conn(node.rpc, context=harness.tls_context(version=ssl.TLSVersion.TLSv1_2)) as conn:
        conn.call("NodeService/GetStatus")
    with node.connect() as conn:
        newest = conn.tls.version()
    linked = subprocess.run(["ldd", harness.program("nova-kms")], capture_output=True, text=True,
                            check=True).stdout
    found = re.search(r"libmbedtls\.so\.(\d+)", linked)
    if found:  # 14 is that of 2.28, 21 that of 3.6.
        assert newest == ("TLSv1.3" if int(found.group(1)) >= 21 else "TLSv1.2")


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256",
                                     "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-SHA384"])
def test_other_suites_are_refused(node, ciphers):
    context = harness.tls_context(version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(ciphers + ":@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        Conn(node.rpc, context=context)


@pytest.mark.parametrize("curve,good", [("prime256v1", True), ("secp521r1", False)])
def test_curves(node, curve, good):
    context = harness.tls_context()
    context.set_ecdh_curve(curve)
    if good:
        Conn(node.rpc, context=context).close()
        return
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        Conn(node.rpc, context=context)


@pytest.mark.parametrize("alpn", [("h2",), ("novakms/2",), ("http/1.0", "h3"), ("novakms/1x",)], ids=str)
def test_wrong_alpn(node, alpn):
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        Conn(node.rpc, context=harness.tls_context(alpn=alpn))


def test_alpn_among_others(node):
    with Conn(node.rpc, context=harness.tls_context(alpn=("h2", "novakms/1"))) as conn:
        assert conn.tls.selected_alpn_protocol() == "novakms/1"
        conn.call("NodeService/GetStatus")


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)], ids=["none", "http/1.1"])
def test_http_on_the_tls_port(node, alpn):
    with Conn(node.rpc, context=harness.tls_context(alpn=alpn)) as conn:
        conn.tls.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while True:
            part = conn.tls.recv(65536)
            if not part:
                break
            answer += part
        assert answer.startswith(b"HTTP/1.1 200") and b'"healthy"' in answer


def test_frames_without_alpn_are_no_frames(node):
    """A client without ALPN is spoken to in HTTP; what is no HTTP is answered as such."""
    with Conn(node.rpc, context=harness.tls_context(alpn=())) as conn:
        conn.tls.sendall(Conn.frame(Conn.request_header(1, "novakms.v1.NodeService/GetStatus")))
        answer = b""
        try:
            while True:
                part = conn.tls.recv(65536)
                if not part:
                    break
                answer += part
        except (ConnectionResetError, ssl.SSLError):
            pass
        assert not answer or answer.startswith(b"HTTP/1.1 400")


def test_the_server_offers_no_resumption(node):
    """Neither a session id nor a ticket that the server would take: an identity always comes from a
    full handshake."""
    for version in (ssl.TLSVersion.TLSv1_2, None):
        context = harness.tls_context(version=version)
        with Conn(node.rpc, context=context) as conn:
            conn.call("NodeService/GetStatus")
            session = conn.tls.session
        if session is None:
            continue
        sock = socket.create_connection(node.rpc, timeout=harness.DEADLINE_S)
        with context.wrap_socket(sock, session=session) as tls:
            assert not tls.session_reused


def s_client(node, *arguments, lines=""):
    """Runs openssl s_client; gives its whole output."""
    command = ["openssl", "s_client", "-connect", "%s:%d" % node.rpc, "-alpn", "novakms/1",
               *arguments]
    done = subprocess.run(command, input=lines.encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=harness.DEADLINE_S, check=False)
    return done.stdout.decode(errors="replace")


def test_renegotiation_is_refused(node):
    """s_client renegotiates when it reads a line "R"."""
    output = s_client(node, "-tls1_2", lines="R\n")
    assert "RENEGOTIATING" in output
    assert re.search("no renegotiation|no_renegotiation|handshake failure|alert|unexpected|wrong",
                     output.split("RENEGOTIATING")[1], re.I), output
    with node.connect() as conn:
        conn.call("NodeService/GetStatus")


def test_secure_renegotiation_and_extended_master_secret(node):
    output = s_client(node, "-tls1_2")
    assert "Secure Renegotiation IS supported" in output
    assert re.search("Extended master secret: yes", output)
    assert "Compression: NONE" in output


def test_early_data_is_not_taken(node, tmp_path):
    """A ticket, where there is one, allows no early data."""
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(Conn.frame(Conn.request_header(1, "novakms.v1.NodeService/GetStatus")))
    s_client(node, "-sess_out", str(session))
    if session.exists():
        output = s_client(node, "-sess_in", str(session), "-early_data", str(early))
        assert "Early data was accepted" not in output


@pytest.mark.parametrize("url,host", [("https://kms.example.org:8443", "kms.example.org"),
                                      ("https://127.0.0.1:1", "127.0.0.1"), ("https://[::1]:1", "::1")])
def test_a_stock_client_can_match_the_host(make_node, url, host):
    """The certificate names the host of NODE_URL, and holds as its own trust anchor."""
    node = make_node(NODE_URL=url)
    with node.connect() as conn:
        der = conn.tls.getpeercert(binary_form=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=der)
    context.set_alpn_protocols(["novakms/1"])
    sock = socket.create_connection(node.rpc, timeout=harness.DEADLINE_S)
    with context.wrap_socket(sock, server_hostname=host) as tls:
        assert tls.getpeercert()
    with pytest.raises(ssl.SSLCertVerificationError):
        sock = socket.create_connection(node.rpc, timeout=harness.DEADLINE_S)
        context.wrap_socket(sock, server_hostname="other.example.org")


def test_the_servers_binding(node):
    """It is one that a client written from the document accepts, for a day at most."""
    with node.connect() as conn:
        der = conn.tls.getpeercert(binary_form=True)
    assert "0x" + minimal_client.wallet_of(der, CHAIN_ID).hex() == node.wallet
    certificate = harness.x509.load_der_x509_certificate(der)
    extension = certificate.extensions.get_extension_for_oid(minimal_client.OID)
    assert not extension.critical
    binding = harness.frame_pb.TlsBinding.FromString(extension.value.value)
    assert 0 < binding.not_after - binding.not_before <= 86400
    assert binding.signature[64] in (27, 28)


def test_a_new_key_at_each_start(tmp_path):
    node = harness.Node(tmp_path)
    keys = []
    for _ in range(2):
        with node.connect() as conn:
            keys.append(conn.tls.getpeercert(binary_form=True))
        node.stop()
        node.start()
    node.stop()
    spkis = {harness.spki_der(harness.x509.load_der_x509_certificate(k).public_key()) for k in keys}
    assert len(spkis) == 2


def test_the_server_asks_for_any_certificate(node):
    output = s_client(node)
    assert "No client certificate CA names sent" in output
    assert "Verify return code" in output


def test_goaway_after_a_malformed_frame_names_the_fault(node, app):
    with node.connect(app) as conn:
        conn.send(b"\0\0\0\2\xff\xff")
        goaway = conn.drain()
        assert goaway.status == INVALID_ARGUMENT and goaway.reason


def test_code_for_no_certificate(node):
    with node.connect() as conn:
        with fails(UNAUTHENTICATED, "certificate"):
            conn.call("Derive", path=b"p")


def test_the_node_renews_its_credential(make_node):
    """With a new TLS key each time; open connections stay."""
    node = make_node(TLS_LIFETIME_SECONDS=70)
    wallet = node.apps.pop()

    def public_key():
        with Conn(node.rpc) as conn:
            certificate = conn.tls.getpeercert(binary_form=True)
        assert minimal_client.wallet_of(certificate, CHAIN_ID).hex() == node.wallet[2:].lower()
        return harness.spki_der(x509.load_der_x509_certificate(certificate).public_key())

    seen = [public_key()]
    with node.connect(wallet) as old:
        for _ in range(2):
            harness.eventually("another TLS key", lambda: public_key() not in seen, every_s=0.2)
            seen.append(public_key())
        assert old.call("WhoAmI").app_id == wallet.app_id
    with node.connect(wallet) as fresh:
        assert fresh.call("WhoAmI").app_id == wallet.app_id
