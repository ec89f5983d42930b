# SPDX-License-Identifier: Apache-2.0
"""Every case of tests/vectors/kdf.json, derived by a node that holds the case's master secret; and
the worked vectors of docs/protocol.md, which cover NOVA_V2."""
import collections
import hashlib
import hmac
import json
import re
import struct

import pytest

import harness
from harness import INVALID_ARGUMENT, fails, kms_pb

VECTORS = json.loads((harness.ROOT / "tests/vectors/kdf.json").read_text())
SECRETS = list(collections.OrderedDict.fromkeys(c["master_secret"] for c in VECTORS["cases"]))


def hkdf(master, salt, info, length):
    prk = hmac.new(salt, master, hashlib.sha256).digest()
    out, block, count = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([count]), hashlib.sha256).digest()
        out, count = out + block, count + 1
    return out[:length]


def nova_v2(master, app_id, path, context, length):
    info = struct.pack(">I", len(path)) + path + struct.pack(">I", len(context)) + context
    return hkdf(master, b"nova-kms:v2:app:%d" % app_id, info, length)


@pytest.fixture(scope="module", params=SECRETS, ids=[s[:8] for s in SECRETS])
def cluster(request, tmp_path_factory):
    """A node with one master secret, and one connection for each app of its vectors."""
    node = harness.Node(tmp_path_factory.mktemp("node"),
                        env={"MASTER_SECRET_HEX": request.param}, start=False)
    cases = [c for c in VECTORS["cases"] if c["master_secret"] == request.param]
    wallets = {app_id: harness.Wallet() for app_id in sorted({c["app_id"] for c in cases})}
    for app_id, wallet in wallets.items():
        node.enrol(wallet, app_id=int(app_id))
    node.start()
    conns = {app_id: node.connect(w) for app_id, w in wallets.items()}
    yield node, conns, cases
    for conn in conns.values():
        conn.close()
    node.stop()


def test_vectors(cluster):
    _, conns, cases = cluster
    derived = reserved = 0
    for case in cases:
        conn = conns[case["app_id"]]
        arguments = {"path": case["path"].encode(), "context": case["context"].encode(),
                     "length": case["length"]}
        if case["path"] == "data_key":  # The key that seals the values: not for callers.
            with fails(INVALID_ARGUMENT, "data_key"):
                conn.call("Derive", **arguments)
            reserved += 1
            continue
        assert conn.call("Derive", **arguments).key.hex() == case["key"], case
        derived += 1
    assert derived >= 20 and reserved >= 1


def test_the_hash_of_the_secret(cluster):
    node, conns, cases = cluster
    want = next(s["hash"] for s in VECTORS["special"]
                if s["master_secret"] == cases[0]["master_secret"])
    status = next(iter(conns.values())).call("NodeService/GetStatus")
    assert "0x" + status.master_secret_hash.hex() == want
    assert node.env["MASTER_SECRET_HEX"] not in node.output()


def test_v2_against_its_formula(cluster):
    _, conns, cases = cluster
    master = bytes.fromhex(cases[0]["master_secret"])
    for app_id, conn in conns.items():
        for path, context, length in ((b"a", b"", 0), (b"a:b", b"", 32), (b"a", b"b", 33),
                                      ("ключ".encode(), b"\0\xff" * 512, 1024), (b"x" * 1024, b"", 1)):
            key = conn.call("Derive", path=path, context=context, length=length,
                            kdf=kms_pb.KDF_NOVA_V2).key
            assert key == nova_v2(master, int(app_id), path, context, length or 32)


def test_the_documents_vectors(tmp_path_factory):
    """Section 12 of docs/protocol.md."""
    rows = re.findall(r"^\| V([12]) \| (\d+) \| `([^`]+)` \|([^|]*)\| (\d+) \| `([0-9a-f]+)` \|$",
                      (harness.ROOT / "docs/protocol.md").read_text(), re.M)
    assert len(rows) == 10
    node = harness.Node(tmp_path_factory.mktemp("node"), start=False)
    wallets = {row[1]: harness.Wallet() for row in rows if row[1] != "49"}
    for app_id, wallet in wallets.items():
        node.enrol(wallet, app_id=int(app_id))
    wallets["49"] = harness.Wallet((node.dir / "node.key").read_text())
    node.start()
    conns = {app_id: node.connect(wallet) for app_id, wallet in wallets.items()}
    for version, app_id, path, context, length, key in rows:
        context = context.strip()
        if context.startswith("bytes"):
            context = bytes.fromhex(re.sub("[^0-9a-f]", "", context[len("bytes"):]))
        else:
            context = context.strip("`").encode()
        got = conns[app_id].call("Derive", path=path.encode(), context=context,
                                 length=int(length), kdf=int(version) - 1).key
        assert got.hex() == key
    for conn in conns.values():
        conn.close()
    node.stop()
