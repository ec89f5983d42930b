# SPDX-License-Identifier: Apache-2.0
"""Members of the cluster, by the registry, that are not nodes of ours: what they answer costs a
node time, and nothing else. Each of them lies in one way when it is asked for the master secret,
and in another when it is pulled from."""
import importlib
import os
import re
import socket
import ssl
import struct
import tempfile
import threading
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (Encoding, PublicFormat,
                                                          load_der_public_key)

import chain as chains
from chain import KMS_APP, SAMPLE_APP, LiveNode, Odyn
from harness import ALPN, CallError, Wallet, frame_pb, node_pb, spki_der

peer_pb = importlib.import_module("novakms.v1.peer_pb2")
UNAVAILABLE = 14
HANGS = object()


def point(key):
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def envelope_key(key, other, nonce):
    """Of Odyn's envelope between the two."""
    mine, theirs = point(key.public_key()), point(other)
    salt = min(mine, theirs) + max(mine, theirs) + nonce
    return HKDF(hashes.SHA256(), 32, salt, b"capsule-ecdh-aes256gcm-v1").derive(
        key.exchange(ec.ECDH(), other))


def envelope(key, receiver, nonce, plain):
    """Odyn's, from key to receiver."""
    return AESGCM(envelope_key(key, receiver, nonce)).encrypt(nonce, plain, None)


class Hostile:
    """One member. lie(self, request) makes the answer to FetchMasterSecret, page(self, request)
    that to Pull: a message, bytes, None for an error, or HANGS."""

    def __init__(self, chain, lie, page):
        self.chain, self.lie, self.page = chain, lie, page
        self.wallet, self.tee = Wallet(), ec.generate_private_key(ec.SECP384R1())
        self.incarnation = os.urandom(16)
        self.hash, self.victim = b"", None  # Of the secret; and who asks for it, an Odyn.
        self.fetches = self.pulls = 0
        self.closing = threading.Event()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.wallet.pem())
            file.flush()
            self.context.load_cert_chain(file.name)
        self.context.set_alpn_protocols([ALPN])
        self.listener = socket.create_server(("127.0.0.1", 0))
        chain.register(self.wallet.text, KMS_APP, "https://127.0.0.1:%d" %
                       self.listener.getsockname()[1], spki_der(self.tee.public_key()))
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        self.closing.set()
        self.listener.close()

    def _listen(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            with self.context.wrap_socket(sock, server_side=True) as tls:
                file = tls.makefile("rb")
                while True:
                    size, header_size = struct.unpack(">IH", file.read(6))
                    header = frame_pb.FrameHeader.FromString(file.read(header_size))
                    self._answer(tls, header, file.read(size - 2 - header_size))
        except (OSError, struct.error):
            sock.close()

    def _answer(self, tls, header, payload):
        if header.WhichOneof("kind") != "request":
            return
        answer = self._call(header.request.method.decode() if isinstance(
            header.request.method, bytes) else header.request.method, payload)
        if answer is HANGS:
            return
        out = frame_pb.FrameHeader()
        out.response.call_id = header.request.call_id
        if answer is None:
            out.response.status, out.response.message = UNAVAILABLE, "\x1b[31mno\nline"
        body = answer.SerializeToString() if hasattr(answer, "SerializeToString") else answer or b""
        head = out.SerializeToString()
        tls.sendall(struct.pack(">IH", 2 + len(head) + len(body), len(head)) + head + body)

    def _call(self, method, payload):
        if method.endswith("/GetStatus"):
            return node_pb.GetStatusResponse(master_secret_hash=self.hash)
        if method.endswith("/FetchMasterSecret"):
            self.fetches += 1
            return self.lie(self, peer_pb.FetchMasterSecretRequest.FromString(payload))
        if method.endswith("/Pull"):
            self.pulls += 1
            return self.page(self, peer_pb.PullRequest.FromString(payload))
        return None

    def state(self):
        return peer_pb.PeerState(incarnation=self.incarnation, master_secret_hash=self.hash,
                                 unix_ms=int(time.time() * 1000), in_service=True)

    # --- the secret

    def sealed(self, request, key=None, **changes):
        """A good answer around a secret of our own, but for what is changed."""
        secret, key = os.urandom(32), key or self.tee
        says = {"secret": secret.hex(), "hash": request.wanted_hash.hex(),
                "nonce": request.nonce.hex(), "from": self.wallet.text[2:],
                "to": self.victim.wallet[2:], **changes}
        plain = "{%s}" % ",".join('"%s":"0x%s"' % field for field in says.items())
        nonce = os.urandom(12)
        receiver = load_der_public_key(self.victim.tee_pubkey())
        return peer_pb.FetchMasterSecretResponse(
            state=self.state(), sender_public_key=spki_der(key.public_key()), seal_nonce=nonce,
            sealed=envelope(key, receiver, nonce, plain.encode()))

    # --- pages

    def good_page(self, request, *records):
        return peer_pb.PullResponse(
            state=self.state(), requester_incarnation=request.state.incarnation, next=len(records),
            last=len(records), known=peer_pb.Known(), floor=peer_pb.Known(), records=records)

    def record(self, ahead_ms=0, **fields):
        hlc = (int(time.time() * 1000) + ahead_ms) << 16
        return peer_pb.PeerRecord(app_id=SAMPLE_APP, key=b"k", stamp=frame_pb.Stamp(
            hlc=hlc, writer=self.incarnation), **fields)


def other_key(self, request):
    return self.sealed(request, key=ec.generate_private_key(ec.SECP384R1()))


def short_nonce(self, request):
    answer = self.sealed(request)
    answer.seal_nonce = answer.seal_nonce[:11]
    return answer


def noise(self, request):
    answer = self.sealed(request)
    answer.sealed = os.urandom(350)
    return answer


LIES = [  # And what the asker says of it.
    (lambda self, request: None, r"\?\[31mno\?line"),
    (other_key, "its key is not the one in the registry"),
    (short_nonce, "fields of wrong sizes"),
    (noise, "Odyn"),
    (lambda self, request: self.sealed(request), "the secret that it sealed has another hash"),
    (lambda self, request: self.sealed(request, nonce="00" * 32), "not made for this request"),
    (lambda self, request: self.sealed(request, to=self.wallet.text[2:]), "names other wallets"),
    (lambda self, request: self.sealed(request, hash="00" * 32), "names another hash"),
    (lambda self, request: self.sealed(request, secret="00"), "another form"),
]


def of_another_incarnation(self, request):
    page = self.good_page(request)
    page.requester_incarnation = os.urandom(16)
    return page


def writer_twice(self, request):
    page = self.good_page(request)
    for _ in range(2):
        page.known.entries.add(writer=self.incarnation, hlc=1)
    return page


def future_vector(self, request):
    page = self.good_page(request)
    page.known.entries.add(writer=os.urandom(16), hlc=(int(time.time()) + 3600) * 1000 << 16)
    return page


PAGES = [
    lambda self, request: b"\xff\xff\xff",
    of_another_incarnation,
    writer_twice,
    future_vector,
    lambda self, request: self.good_page(request, *[self.record()] * 5000),
    lambda self, request: self.good_page(request, self.record(sealed=os.urandom(60))),
    lambda self, request: self.good_page(request, self.record(ahead_ms=3600000, tombstone=True)),
    lambda self, request: HANGS,
    lambda self, request: None,
]


def counter(node, name):
    return int(re.search(r"^nova_kms_%s (\d+)$" % name, node.metrics(), re.M).group(1))


def value(kms, key):
    try:
        return kms.call("Get", key=key).value
    except CallError:
        return None


def make_node(chain, odyn):
    listen = "127.0.0.1:%d" % chains.free_port()
    chain.fund(odyn.wallet)
    chain.register(odyn.wallet, KMS_APP, "https://" + listen, odyn.tee_pubkey())
    return LiveNode(chain, odyn, {
        "NODE_URL": "https://" + listen, "NODE_RPC_LISTEN": listen,
        "DATA_SYNC_INTERVAL_SECONDS": "1", "START_WAIT_SECONDS": "3"})


def test_lying_members(chain):
    honest = make_node(chain, Odyn())
    members, victim = [], None
    try:
        honest.await_ready()
        with honest.connect_app() as kms:
            for i in range(50):
                kms.call("Put", key=b"k" if i == 0 else b"%d" % i, value=b"v%d" % i)
            caller = kms.wallet
        odyn = Odyn()
        for (lie, _), page in zip(LIES, PAGES):
            members.append(Hostile(chain, lie, page))
            members[-1].hash = bytes.fromhex(chain.secret_hash()[2:])
            members[-1].victim = odyn
        honest.odyn.stop()  # It cannot seal: so everybody is asked.
        victim = make_node(chain, odyn)
        victim.eventually("all were asked", lambda: all(member.fetches for member in members))
        for member, (_, reason) in zip(members, LIES):
            victim.await_log(r"(failed from=%s reason=\"[^\"]*%s)" % (member.wallet.text, reason))
        assert "adopted" not in victim.output()
        honest.odyn.start()
        victim.await_ready()
        with victim.connect_known(caller) as kms:
            for i in range(50):
                victim.eventually("it has the honest node's data", lambda i=i: value(
                    kms, b"k" if i == 0 else b"%d" % i) == b"v%d" % i)
        for node in (honest, victim):
            node.eventually("all lied", lambda node=node: counter(
                node, "replication_forged_records_total") > 0)
            node.eventually("the future is refused", lambda node=node: re.search(
                r'store_merge_refusals_total{reason="skew"} [1-9]', node.metrics()))
            assert node.page("/health")[0] == 200
            seen = {member["wallet"]: member for member in
                    node.page("/status")[1]["cluster"]["members"]}
            assert not any(seen[member.wallet.text]["reachable"] for member in members)
        assert all(member.pulls for member in members)
    finally:
        for member in members:
            member.close()
        if victim is not None:
            victim.close()
        honest.close()
