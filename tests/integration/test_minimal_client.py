# SPDX-License-Identifier: Apache-2.0
"""The client that was written from docs/protocol.md alone derives the key of the vectors."""
import json
import re
import subprocess
import sys

import ecdsa
import pytest

import harness
import minimal_client

VECTORS = json.loads((harness.ROOT / "tests/vectors/kdf.json").read_text())
CASE = next(c for c in VECTORS["cases"]
            if c["context"] and c["path"] != "data_key" and c["length"] == 48)


@pytest.fixture(scope="module")
def vector_node(tmp_path_factory):
    node = harness.Node(tmp_path_factory.mktemp("node"),
                        env={"MASTER_SECRET_HEX": CASE["master_secret"]}, start=False)
    node.vector_wallet = harness.Wallet()
    node.enrol(node.vector_wallet, app_id=int(CASE["app_id"]))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def wallet(vector_node):
    return vector_node.vector_wallet


def test_it_derives_the_vector(vector_node, wallet, tmp_path):
    key_file = tmp_path / "key"
    key_file.write_text(wallet.key.hex())
    command = [sys.executable, minimal_client.__file__, "%s:%d" % vector_node.rpc,
               str(harness.CHAIN_ID), vector_node.wallet, str(key_file), CASE["path"],
               CASE["context"], str(CASE["length"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=harness.DEADLINE_S,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == CASE["key"]


def test_it_refuses_another_server(vector_node, wallet):
    with pytest.raises(ValueError, match="another wallet"):
        minimal_client.connect(vector_node.rpc, harness.CHAIN_ID, b"\1" * 20, wallet.signing_key)


def test_it_refuses_another_chain(vector_node, wallet):
    with pytest.raises(ValueError, match="signed by another wallet"):
        minimal_client.connect(vector_node.rpc, harness.CHAIN_ID + 1,
                               bytes.fromhex(vector_node.wallet[2:]), wallet.signing_key)


def test_it_shows_the_servers_sentence(vector_node, wallet):
    with minimal_client.connect(vector_node.rpc, harness.CHAIN_ID,
                                bytes.fromhex(vector_node.wallet[2:]),
                                wallet.signing_key) as conn:
        with pytest.raises(RuntimeError, match="status 3: .*path"):
            minimal_client.derive(conn, 1, b"")


def test_the_worked_example_of_the_document():
    """Section 3 of docs/protocol.md, with the private keys it names."""
    wallet = ecdsa.SigningKey.from_string(b"\x11" * 32, ecdsa.SECP256k1)
    text = (harness.ROOT / "docs/protocol.md").read_text()
    assert "0x" + minimal_client.address(wallet.verifying_key).hex() in text
    key = minimal_client.ec.derive_private_key(int.from_bytes(b"\x22" * 32, "big"),
                                               minimal_client.ec.SECP256R1())
    spki = minimal_client.spki_of(key.public_key())
    assert spki.hex() in text
    digest = minimal_client.claim_digest(84532, spki, 1767225600, 1767312000)
    assert digest.hex() in text
    signature = harness.Wallet(b"\x11" * 32).sign(
        ("NovaKMS:TLS:v1:84532:%s:1767225600:1767312000"
         % minimal_client.hashlib.sha256(spki).hexdigest()).encode())
    assert signature.hex() in text
    assert minimal_client.OID.dotted_string in text
    assert minimal_client.OID.dotted_string == harness.OID


def test_the_documents_messages_are_those_of_proto():
    """Section 15 of docs/protocol.md, whatever its white space."""
    def words(text):
        return re.findall(r"\w+|[{}=;]", text)
    section = (harness.ROOT / "docs/protocol.md").read_text().split("\n## 15. ")[1].split("\n## ")[0]
    listed = words("".join(l for l in section.splitlines(True) if l.startswith("    ")))
    protos = []
    for name in ("frame", "kms", "node"):
        text = (harness.ROOT / "proto/novakms/v1" / (name + ".proto")).read_text()
        text = re.sub(r"//.*", "", text)
        protos += words(re.sub(r"(?s)service \w+ \{.*?\n\}|syntax .*?;|package .*?;|import .*?;", "",
                               text))
    assert listed == protos


def test_the_documents_frame():
    """The worked example of section 5."""
    derive = minimal_client.field(1, b"disk_encryption") + minimal_client.field(3, 32)
    header = minimal_client.field(1, minimal_client.field(1, 1) + minimal_client.field(
        2, b"novakms.v1.KmsService/Derive") + minimal_client.field(3, 5000))
    frame = minimal_client.struct.pack(">IH", 2 + len(header) + len(derive), len(header)) + (
        header + derive)
    text = (harness.ROOT / "docs/protocol.md").read_text()
    example = text.split("62 bytes:\n")[1].split("The answer")[0]
    # The hex stands before the remarks, which begin after two spaces or more.
    octets = "".join(re.findall(r"(?m)^ +((?:[0-9a-f]{2,} ?)+)(?= |$)", example)).replace(" ", "")
    assert octets == frame.hex()
