# SPDX-License-Identifier: Apache-2.0
"""odyn-sim over HTTP: the vectors, every endpoint and its errors, and the faults it can show. Checked
with independent libraries (cryptography, ecdsa)."""
import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import time

import ecdsa
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harness import DEADLINE_S, ROOT, eventually, keccak256, program, spki_der

MIB = 1024 * 1024


def vectors(name):
    return json.loads((ROOT / "tests/vectors" / name).read_text())["cases"]


class Sim:
    """A running odyn-sim."""

    def __init__(self, *args):
        self.process = subprocess.Popen([program("odyn-sim"), "--port", "0", *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("odyn-sim ready "), (line, self.process.stderr.read())
        self.ready = dict(word.split("=", 1) for word in line.split()[2:])
        host, port = self.ready["url"].removeprefix("http://").rsplit(":", 1)
        self.address = (host, int(port))
        self.wallet = self.ready["wallet"]
        assert int(self.ready["pid"]) == self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0, err
        return err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def request(self, method, path, body=None, timeout_s=DEADLINE_S):
        """Status, content type and body."""
        conn = http.client.HTTPConnection(*self.address, timeout=timeout_s)
        try:
            conn.request(method, path, body)
            answer = conn.getresponse()
            return answer.status, answer.getheader("Content-Type"), answer.read()
        finally:
            conn.close()

    def get(self, path):
        status, kind, body = self.request("GET", path)
        assert (status, kind) == (200, "application/json"), body
        return json.loads(body)

    def post(self, path, value):
        status, kind, body = self.request("POST", path, json.dumps(value))
        assert (status, kind) == (200, "application/json"), body
        return json.loads(body)

    def refused(self, path, value, status=400):
        """The text of the refusal."""
        body = value if isinstance(value, (bytes, str)) else json.dumps(value)
        got, kind, text = self.request("POST", path, body)
        assert got == status, text
        assert kind.startswith("text/plain")
        return text.decode()


@pytest.fixture(scope="module")
def sim():
    sim = Sim()
    yield sim
    sim.stop()


@pytest.fixture
def clean(sim):
    yield sim
    sim.post("/_sim/clear", {})


# --- the wallet --------------------------------------------------------------------------------------

def recover(digest, signature):
    """The wallet of a 65-byte signature; v as 0, 1, 27 or 28."""
    rs, v = signature[:64], signature[64]
    half = ecdsa.SECP256k1.order // 2
    assert int.from_bytes(rs[32:], "big") <= half, "high s"
    keys = ecdsa.VerifyingKey.from_public_key_recovery_with_digest(
        rs, digest, ecdsa.SECP256k1, hashfunc=hashlib.sha256)
    # In the order of the parity of the point's y.
    return "0x" + keccak256(keys[v - 27 if v >= 27 else v].to_string())[12:].hex()


def test_address(sim):
    answer = sim.get("/v1/eth/address")
    assert set(answer) == {"address", "public_key"}
    assert answer["address"] == sim.wallet
    point = bytes.fromhex(answer["public_key"].removeprefix("0x"))
    assert len(point) == 65 and point[0] == 4
    assert "0x" + keccak256(point[1:])[12:].hex() == sim.wallet


TEXTS = {"hello": "hello", "escapes": "line\nbreak \"quoted\" \\", "unicode": "\u00fc\u20ac\U0001f600",
         "long": "a" * 300000}


@pytest.mark.parametrize("message", TEXTS.values(), ids=TEXTS)
def test_sign(sim, message):
    answer = sim.post("/v1/eth/sign", {"message": message, "include_attestation": False})
    assert set(answer) == {"signature", "address", "attestation"}
    assert answer["attestation"] is None
    text = message.encode()
    digest = keccak256(b"\x19Ethereum Signed Message:\n%d" % len(text) + text)
    signature = bytes.fromhex(answer["signature"].removeprefix("0x"))
    assert len(signature) == 65 and signature[64] in (27, 28)
    assert recover(digest, signature) == answer["address"] == sim.wallet


def test_eip191_vectors():
    with Sim() as sim:
        for case in vectors("eip191.json"):
            sim.post("/_sim/wallet", {"private_key": case["private_key"]})
            if not case["message"]:
                continue  # Odyn signs no empty message.
            answer = sim.post("/v1/eth/sign", {"message": case["message"]})
            assert answer["address"] == case["address"].lower()
            assert answer["signature"].removeprefix("0x") == case["signature"].removeprefix("0x")


def test_v_of_zero():
    with Sim("--signature-v", "0") as sim:
        values = set()
        for i in range(20):
            message = "message %d" % i
            answer = sim.post("/v1/eth/sign", {"message": message})
            signature = bytes.fromhex(answer["signature"][2:])
            values.add(signature[64])
            text = message.encode()
            digest = keccak256(b"\x19Ethereum Signed Message:\n%d" % len(text) + text)
            assert recover(digest, signature) == sim.wallet
        assert values == {0, 1}


def payload(fields):
    return {"kind": "structured", "chain_id": hex(fields["chainId"]), "nonce": hex(fields["nonce"]),
            "max_priority_fee_per_gas": hex(int(fields["maxPriorityFeePerGas"])),
            "max_fee_per_gas": hex(int(fields["maxFeePerGas"])),
            "gas_limit": hex(fields["gasLimit"]), "to": fields["to"],
            "value": hex(int(fields["value"])), "data": fields["data"], "access_list": []}


def test_eip1559_vectors():
    with Sim() as sim:
        for case in vectors("eip1559.json"):
            sim.post("/_sim/wallet", {"private_key": case["private_key"]})
            answer = sim.post("/v1/eth/sign-tx",
                              {"include_attestation": False, "payload": payload(case["fields"])})
            assert set(answer) == {"raw_transaction", "transaction_hash", "signature", "address",
                                   "attestation"}
            assert answer["raw_transaction"] == case["raw_transaction"]
            assert answer["transaction_hash"] == case["transaction_hash"]
            assert answer["address"] == case["address"].lower()
            assert answer["attestation"] is None
            raw = bytes.fromhex(case["raw_transaction"][2:])
            signature = bytes.fromhex(answer["signature"][2:])
            assert signature[:32].lstrip(b"\0") in raw and signature[32:64].lstrip(b"\0") in raw


BASE_TX = payload(vectors("eip1559.json")[1]["fields"])


@pytest.mark.parametrize("changes, says", [
    ({"kind": "raw"}, "kind must be structured"),
    ({"chain_id": 1}, "chain_id must be a string"),
    ({"chain_id": "0x1" + "0" * 16}, "chain_id must be a hex quantity of at most 64 bits"),
    ({"nonce": "0x"}, "nonce must be"),
    ({"gas_limit": "zz"}, "gas_limit must be"),
    ({"to": "0x12"}, "to must be"),
    ({"to": None}, "to must be a string"),
    ({"value": "0x1" + "0" * 64}, "value must be a hex quantity of at most 256 bits"),
    ({"data": "0x1"}, "data must be hex"),
    ({"access_list": [{}]}, "access_list must be an empty list"),
])
def test_sign_tx_refuses(sim, changes, says):
    assert says in sim.refused("/v1/eth/sign-tx", {"payload": dict(BASE_TX, **changes)})


def test_random(sim):
    seen = {sim.get("/v1/random")["random_bytes"] for _ in range(5)}
    assert len(seen) == 5
    assert all(len(text) == 66 and text.startswith("0x") for text in seen)


# --- encryption --------------------------------------------------------------------------------------

def sec1(key):
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def envelope_key(private, peer, nonce):
    points = sorted([sec1(private.public_key()), sec1(peer)])
    return HKDF(hashes.SHA256(), 32, points[0] + points[1] + nonce,
                b"capsule-ecdh-aes256gcm-v1").derive(private.exchange(ec.ECDH(), peer))


def public_key(sim):
    answer = sim.get("/v1/encryption/public_key")
    assert set(answer) == {"public_key_der", "public_key_pem"}
    assert answer["public_key_der"].startswith("0x3076")
    key = serialization.load_der_public_key(bytes.fromhex(answer["public_key_der"][2:]))
    pem = serialization.load_pem_public_key(answer["public_key_pem"].encode())
    assert sec1(key) == sec1(pem)
    assert answer["public_key_pem"].encode() == pem.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key


@pytest.mark.parametrize("text", ["", *TEXTS.values()], ids=["empty", *TEXTS])
def test_encrypt(sim, text):
    own = ec.generate_private_key(ec.SECP384R1())
    answer = sim.post("/v1/encryption/encrypt", {
        "plaintext": text, "client_public_key": "0x" + spki_der(own.public_key()).hex()})
    assert set(answer) == {"encrypted_data", "enclave_public_key", "nonce"}
    assert not any(value.startswith("0x") for value in answer.values())
    enclave = serialization.load_der_public_key(bytes.fromhex(answer["enclave_public_key"]))
    assert sec1(enclave) == sec1(public_key(sim))
    nonce = bytes.fromhex(answer["nonce"])
    assert len(nonce) == 12
    plain = AESGCM(envelope_key(own, enclave, nonce)).decrypt(
        nonce, bytes.fromhex(answer["encrypted_data"]), None)
    assert plain == text.encode()


def sealed(own, enclave, text, nonce=None, prefix="0x"):
    nonce = nonce or os.urandom(12)
    data = AESGCM(envelope_key(own, enclave, nonce)).encrypt(nonce, text, None)
    return {"nonce": prefix + nonce.hex(), "encrypted_data": prefix + data.hex(),
            "client_public_key": prefix + spki_der(own.public_key()).hex()}


@pytest.mark.parametrize("prefix", ["0x", ""])
@pytest.mark.parametrize("text", ["", *TEXTS.values()], ids=["empty", *TEXTS])
def test_decrypt(sim, text, prefix):
    own = ec.generate_private_key(ec.SECP384R1())
    body = sealed(own, public_key(sim), text.encode(), prefix=prefix)
    assert sim.post("/v1/encryption/decrypt", body) == {"plaintext": text}
    assert "nonce already used" in sim.refused("/v1/encryption/decrypt", body)


def test_envelope_vectors():
    with Sim() as sim:
        for case in vectors("odyn-envelope.json"):
            sim.post("/_sim/encryption_key", {"private_key": case["receiver_private"]})
            assert sec1(public_key(sim)).hex() == case["receiver_public_sec1"]
            sender = ec.derive_private_key(int(case["sender_private"], 16), ec.SECP384R1())
            answer = sim.post("/v1/encryption/decrypt", {
                "nonce": case["nonce"], "encrypted_data": case["encrypted_data"],
                "client_public_key": spki_der(sender.public_key()).hex()})
            assert answer["plaintext"] == case["plaintext"]


def test_nonce_is_used_by_sender_and_also_when_it_failed(sim):
    enclave = public_key(sim)
    first, second = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    nonce = os.urandom(12)
    broken = sealed(first, enclave, b"a", nonce)
    broken["encrypted_data"] = "0x" + "00" * 17
    assert "cannot decrypt" in sim.refused("/v1/encryption/decrypt", broken)
    assert "nonce already used" in sim.refused("/v1/encryption/decrypt",
                                               sealed(first, enclave, b"a", nonce))
    assert sim.post("/v1/encryption/decrypt",
                    sealed(second, enclave, b"b", nonce)) == {"plaintext": "b"}


def test_decrypt_refuses(sim):
    own = ec.generate_private_key(ec.SECP384R1())
    enclave = public_key(sim)
    assert "UTF-8" in sim.refused("/v1/encryption/decrypt", sealed(own, enclave, b"\xff"))
    p256 = spki_der(ec.generate_private_key(ec.SECP256R1()).public_key()).hex()
    for changes, says in [
        ({"nonce": "0x00"}, "12 bytes"), ({"nonce": None}, "nonce must be a string"),
        ({"nonce": "0x" + "00" * 13}, "nonce must be hex of at most 12 bytes"),
        ({"client_public_key": p256}, "P-384"), ({"client_public_key": "0x"}, "P-384"),
        ({"encrypted_data": "0x00"}, "at least 16 bytes"),
        ({"encrypted_data": "0x0"}, "must be hex"),
    ]:
        body = dict(sealed(own, enclave, b"a"), **changes)
        assert says in sim.refused("/v1/encryption/decrypt", body)


# --- attestation -------------------------------------------------------------------------------------

def cbor(data, at=0):
    """One item and where it ends."""
    major, small = data[at] >> 5, data[at] & 31
    at += 1
    if data[at - 1] == 0xf6:
        return None, at
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(small, 0)
    value = int.from_bytes(data[at:at + size], "big") if size else small
    at += size
    if major == 0:
        return value, at
    if major == 1:
        return -1 - value, at
    if major in (2, 3):
        part = data[at:at + value]
        assert len(part) == value
        return (part.decode() if major == 3 else part), at + value
    items = []
    for _ in range(value * (2 if major == 5 else 1)):
        item, at = cbor(data, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if major == 5 else items), at


def document(data):
    (protected, unprotected, body, signature), end = cbor(data)
    assert end == len(data)
    assert cbor(protected)[0] == {1: -35} and unprotected == {}
    assert signature == bytes(96)  # Unsigned, and says so.
    payload_, end = cbor(body)
    assert end == len(body)
    assert set(payload_) == {"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle",
                             "public_key", "user_data", "nonce"}
    assert "development" in payload_["module_id"]
    assert payload_["pcrs"] == {i: bytes(48) for i in range(16)}
    return payload_


def test_attestation(sim):
    nonce = os.urandom(32)
    status, kind, data = sim.request("POST", "/v1/attestation", json.dumps(
        {"nonce": base64.b64encode(nonce).decode(), "user_data": {"a": [1, "b"]}}))
    assert (status, kind) == (200, "application/cbor")
    doc = document(data)
    assert doc["nonce"] == nonce
    assert json.loads(doc["user_data"]) == {"a": [1, "b"], "eth_addr": sim.wallet}
    assert doc["public_key"] == spki_der(public_key(sim))


def test_attestation_with_public_key(sim):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM,
                           serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    _, _, data = sim.request("POST", "/v1/attestation", json.dumps({"public_key": pem}))
    doc = document(data)
    assert doc["public_key"] == spki_der(key)
    assert doc["nonce"] is None
    assert json.loads(doc["user_data"]) == {"eth_addr": sim.wallet}


def test_attestation_in_answers(sim):
    answer = sim.post("/v1/eth/sign", {"message": "x", "include_attestation": True})
    doc = document(base64.b64decode(answer["attestation"]))
    assert json.loads(doc["user_data"]) == {"eth_addr": sim.wallet}
    answer = sim.post("/v1/eth/sign-tx", {"include_attestation": True, "payload": BASE_TX})
    document(base64.b64decode(answer["attestation"]))


def test_attestation_refuses(sim):
    for body, says in [({"nonce": "!"}, "base64"), ({"nonce": 1}, "nonce must be a string"),
                       ({"public_key": "x"}, "PEM"), ({"user_data": "x"}, "object"),
                       ({"user_data": {"a": "x" * 500}}, "512 bytes")]:
        assert says in sim.refused("/v1/attestation", body)


# --- requests that are wrong -------------------------------------------------------------------------

@pytest.mark.parametrize("body", ["", "{", "[]", "1", "{} {}", b"\xff", "[" * 100,
                                  '{"message":"a","message":"b"}'],
                         ids=["empty", "open", "array", "number", "two", "not_utf8", "deep", "twice"])
def test_not_a_json_object(sim, body):
    assert "JSON object" in sim.refused("/v1/eth/sign", body)


def test_wrong_fields(sim):
    for body, says in [({}, "message must be a string"), ({"message": 1}, "message must be a string"),
                       ({"message": ""}, "must not be empty"),
                       ({"message": "x", "include_attestation": 1}, "must be true or false")]:
        assert says in sim.refused("/v1/eth/sign", body)


def test_wrong_paths_and_methods(sim):
    assert sim.request("GET", "/v1/nothing")[0] == 404
    assert sim.request("GET", "/v1/eth/sign")[0] == 405
    assert sim.request("POST", "/v1/random", "{}")[0] == 405
    assert sim.request("GET", "/" + "a" * 5000)[0] == 400


def test_body_limit(sim):
    head = b'{"message":"'
    body = head + b"a" * (10 * MIB - len(head) - 2) + b'"}'
    assert sim.request("POST", "/v1/eth/sign", body)[0] == 200
    assert "10485760" in sim.refused("/v1/eth/sign", body + b" ", 413)
    # The same without a length.
    conn = http.client.HTTPConnection(*sim.address, timeout=DEADLINE_S)
    chunks = (body[i:i + MIB] for i in range(0, len(body), MIB))
    conn.request("POST", "/v1/eth/sign", chunks, encode_chunked=True)
    assert conn.getresponse().status == 200
    conn.close()


def test_connection_is_kept(sim):
    conn = http.client.HTTPConnection(*sim.address, timeout=DEADLINE_S)
    for _ in range(3):
        conn.request("GET", "/v1/eth/address")
        assert json.loads(conn.getresponse().read())["address"] == sim.wallet
    port = conn.sock.getsockname()[1]
    conn.request("POST", "/v1/eth/sign", json.dumps({"message": "x"}))
    assert conn.getresponse().read()
    assert conn.sock.getsockname()[1] == port
    conn.close()


def test_garbage_and_hangups(sim):
    for data in [b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"GET", b"POST /v1/eth/sign HTTP/1.1\r\n"
                 b"Content-Length: 100\r\n\r\n{", b"GET / HTTP/9.9\r\n\r\n", b""]:
        with socket.create_connection(sim.address, timeout=DEADLINE_S) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    assert sim.get("/v1/eth/address")["address"] == sim.wallet


# --- faults ------------------------------------------------------------------------------------------

def test_status_fault(clean):
    clean.post("/_sim/fault", {"path": "/v1/random", "status": 503, "body": "no NSM", "count": 2})
    for _ in range(2):
        assert clean.request("GET", "/v1/random")[::2] == (503, b"no NSM")
    assert clean.get("/v1/random")
    clean.post("/_sim/fault", {"path": "*", "status": 400, "body": "all"})
    assert clean.request("GET", "/v1/random")[0] == 400
    assert clean.request("POST", "/v1/eth/sign", "{}")[::2] == (400, b"all")
    assert [f["path"] for f in clean.get("/_sim/state")["faults"]] == ["*"]
    assert clean.post("/_sim/clear", {})["faults"] == []
    assert clean.get("/v1/random")


def test_drop_and_hang(clean):
    clean.post("/_sim/fault", {"path": "/v1/random", "drop": True, "count": 1})
    with pytest.raises(http.client.RemoteDisconnected):
        clean.request("GET", "/v1/random")
    clean.post("/_sim/fault", {"path": "/v1/random", "hang": True})
    with pytest.raises(socket.timeout):
        clean.request("GET", "/v1/random", timeout_s=0.2)
    # The others are served meanwhile.
    assert clean.get("/v1/eth/address")


def test_latency(clean):
    """A slow call holds up nobody."""
    clean.post("/_sim/fault", {"path": "/v1/random", "latency_ms": 300})
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(clean.get, "/v1/random") for _ in range(4)]
        assert clean.get("/v1/eth/address")["address"] == clean.wallet
        assert all(call.result()["random_bytes"] for call in slow)
    assert time.monotonic() - start >= 0.3


def test_faults_are_checked(clean):
    for body in [{}, {"path": ""}, {"path": "*", "status": 199}, {"path": "*", "status": 600},
                 {"path": "*", "latency_ms": -1}, {"path": "*", "hang": 1}, {"path": "a" * 64},
                 {"path": "*", "body": "a" * 256}]:
        clean.refused("/_sim/fault", body)
    for i in range(32):
        clean.post("/_sim/fault", {"path": "/%d" % i, "status": 500})
    assert "32 faults" in clean.refused("/_sim/fault", {"path": "/32", "status": 500})


def test_changed_keys():
    with Sim() as sim:
        key = sec1(public_key(sim))
        assert sim.post("/_sim/wallet", {})["address"] != sim.wallet
        assert sim.get("/v1/eth/address")["address"] != sim.wallet
        assert sec1(public_key(sim)) == key
        sim.post("/_sim/encryption_key", {})
        assert sec1(public_key(sim)) != key
        for bad in ["0x00", "0x" + "00" * 32, "0x" + "ff" * 32, 5]:
            sim.refused("/_sim/wallet", {"private_key": bad})


# --- the program -------------------------------------------------------------------------------------

def test_key_file(tmp_path):
    path = tmp_path / "keys.json"
    with Sim("--key-file", str(path)) as sim:
        wallet, key = sim.wallet, sec1(public_key(sim))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Sim("--key-file", str(path)) as sim:
        assert (sim.wallet, sec1(public_key(sim))) == (wallet, key)
    with Sim() as sim:
        assert sim.wallet != wallet
    case = vectors("eip1559.json")[0]
    other = vectors("odyn-envelope.json")[0]
    path.write_text(json.dumps({"wallet": case["private_key"],
                                "encryption": other["receiver_private"]}))
    with Sim("--key-file", str(path)) as sim:
        assert sim.wallet == case["address"].lower()
        assert sec1(public_key(sim)).hex() == other["receiver_public_sec1"]


def run(*args):
    return subprocess.run([program("odyn-sim"), *args], capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False)


def test_command_line(tmp_path):
    help_ = run("--help")
    assert help_.returncode == 0 and "usage: odyn-sim" in help_.stdout
    for args in [["--nothing"], ["x"], ["--port", "65536"], ["--port", "a"], ["--fault", "x"],
                 ["--fault", "/v1/random=199"], ["--fault", "=500"], ["--signature-v", "1"],
                 ["--latency-ms", "600001"], ["--address", "0.0.0.0"], ["--port"]]:
        result = run(*args)
        assert result.returncode == 2, args
        assert result.stderr.startswith("odyn-sim: ")
    bad = tmp_path / "keys"
    bad.write_text("{}")
    result = run("--port", "0", "--key-file", str(bad))
    assert result.returncode == 1 and "must hold" in result.stderr
    with Sim() as sim:
        result = run("--port", str(sim.address[1]))
        assert result.returncode == 1 and "cannot listen" in result.stderr


def test_flags():
    with Sim("--fault", "/v1/random=503", "--fault", "/v1/eth/sign=drop", "--verbose") as sim:
        assert sim.request("GET", "/v1/random")[0] == 503
        with pytest.raises(http.client.RemoteDisconnected):
            sim.request("POST", "/v1/eth/sign", "{}")
        assert "/v1/random 503" in sim.stop()
    with Sim("--latency-ms", "1", "--address", "127.0.0.1") as sim:
        assert sim.get("/v1/random")


def test_many_callers(sim):
    """More connections than it takes at once; each is answered or closed, and it goes on."""
    socks = [socket.create_connection(sim.address, timeout=DEADLINE_S) for _ in range(300)]
    try:
        socks[0].sendall(b"GET /v1/eth/address HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sim.wallet.encode() in socks[0].recv(65536)
        assert socks[-1].recv(1) == b""
    finally:
        for sock in socks:
            sock.close()

    def serves():
        with contextlib.suppress(ConnectionError):
            return sim.request("GET", "/v1/random")[0] == 200

    eventually("it serves again", serves)
