# SPDX-License-Identifier: Apache-2.0
"""A client for Nova KMS written from docs/protocol.md alone; it shares no code with the rest.

    minimal_client.py HOST:PORT CHAIN_ID SERVER_WALLET KEY_FILE PATH [CONTEXT [LENGTH]]

prints the derived key in hex. KEY_FILE holds the wallet's private key as 64 hex digits.
"""
import datetime
import hashlib
import os
import socket
import ssl
import struct
import sys
import tempfile
import time

import ecdsa
from Cryptodome.Hash import keccak
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from ecdsa.util import sigencode_string_canonize

OID = x509.ObjectIdentifier(
    "1.2.840.113556.1.8000.2554.54442.52556.57328.19061.40783.12347439.3214903.1")


# --- protobuf, as far as it is needed ----------------------------------------------------------

def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value if value else b""


def read_varint(data):
    n = shift = 0
    for used, byte in enumerate(data, 1):
        n, shift = n | (byte & 127) << shift, shift + 7
        if byte < 128:
            return n, data[used:]
    raise ValueError("protobuf ends early")


def fields(data):
    """{number: last value}: integers for varints, bytes for the rest."""
    out = {}
    while data:
        tag, data = read_varint(data)
        if tag & 7 == 0:
            out[tag >> 3], data = read_varint(data)
            continue
        size, data = read_varint(data) if tag & 7 == 2 else (8 if tag & 7 == 1 else 4, data)
        if size > len(data):
            raise ValueError("protobuf ends early")
        out[tag >> 3], data = data[:size], data[size:]
    return out


# --- wallet and binding (section 3) --------------------------------------------------------------

def keccak256(data):
    return keccak.new(digest_bits=256, data=data).digest()


def address(public_key):
    return keccak256(public_key.to_string())[12:]


def claim_digest(chain_id, spki, not_before, not_after):
    text = "NovaKMS:TLS:v1:%d:%s:%d:%d" % (chain_id, hashlib.sha256(spki).hexdigest(),
                                           not_before, not_after)
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(text) + text.encode())


def signers(signature, digest):
    """The two keys that can have made r and s: the first for v = 27, the second for v = 28."""
    return ecdsa.VerifyingKey.from_public_key_recovery_with_digest(
        signature[:64], digest, ecdsa.SECP256k1, hashfunc=hashlib.sha256)


def spki_of(key):
    return key.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def make_certificate(wallet_key, chain_id):
    """PEM of a new TLS key and its certificate, bound to the wallet for an hour."""
    key, now = ec.generate_private_key(ec.SECP256R1()), int(time.time())
    dates = now - 60, now + 3540
    digest = claim_digest(chain_id, spki_of(key.public_key()), *dates)
    rs = wallet_key.sign_digest_deterministic(digest, hashfunc=hashlib.sha256,
                                              sigencode=sigencode_string_canonize)
    mine = wallet_key.verifying_key
    v = 27 + [k.to_string() for k in signers(rs, digest)].index(mine.to_string())
    binding = (field(1, address(mine)) + field(2, dates[0]) + field(3, dates[1]) +
               field(4, rs + bytes([v])))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    start, end = (datetime.datetime.fromtimestamp(t, datetime.timezone.utc) for t in dates)
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(start).not_valid_after(end)
            .add_extension(x509.UnrecognizedExtension(OID, binding), critical=False)
            .sign(key, hashes.SHA256()))
    return cert.public_bytes(ser.Encoding.PEM) + key.private_bytes(
        ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


def wallet_of(der, chain_id):
    """Verifies the binding of a certificate and gives the wallet's address."""
    cert = x509.load_der_x509_certificate(der)
    b = fields(cert.extensions.get_extension_for_oid(OID).value.value)
    start, end = (int(t.replace(tzinfo=datetime.timezone.utc).timestamp())
                  for t in (cert.not_valid_before, cert.not_valid_after))
    if (b[2], b[3]) != (start, end) or not 0 < end - start <= 86400:
        raise ValueError("the binding's dates are wrong")
    if not start - 5 <= time.time() < end + 5:
        raise ValueError("the binding is not valid now")
    digest = claim_digest(chain_id, spki_of(cert.public_key()), start, end)
    if address(signers(b[4], digest)[(b[4][64] - 27) & 1]) != b[1]:
        raise ValueError("the binding is signed by another wallet")
    return b[1]


# --- connection (sections 2, 4, 5) -----------------------------------------------------------------

def tls(where):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.set_alpn_protocols(["novakms/1"])
    return context, socket.create_connection(where, timeout=30)


def connect(where, chain_id, server_wallet, wallet_key):
    context, sock = tls(where)  # First without a certificate, to see the server's and verify it;
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(sock) as probe:
        der = probe.getpeercert(binary_form=True)
    if wallet_of(der, chain_id) != server_wallet:
        raise ValueError("the server has another wallet")
    context, sock = tls(where)  # then with ours, to exactly that certificate.
    context.load_verify_locations(cadata=der)
    with tempfile.NamedTemporaryFile() as pem:  # Mode 0600; ssl reads certificates from files only.
        pem.write(make_certificate(wallet_key, chain_id))
        pem.flush()
        context.load_cert_chain(pem.name)
    return context.wrap_socket(sock)


def read_exactly(conn, size):
    data = b""
    while len(data) < size:
        part = conn.recv(size - len(data))
        if not part:
            raise ConnectionError("the server closed the connection")
        data += part
    return data


def write_frame(conn, header, payload=b""):
    conn.sendall(struct.pack(">IH", 2 + len(header) + len(payload), len(header)) + header + payload)


def call(conn, call_id, method, request):
    write_frame(conn, field(1, field(1, call_id) + field(2, method) + field(3, 10000)), request)
    while True:
        size, header_size = struct.unpack(">IH", read_exactly(conn, 6))
        body = read_exactly(conn, size - 2)
        header, payload = fields(body[:header_size]), body[header_size:]
        if 2 in header:
            response = fields(header[2])
            if response.get(2, 0) != 0:
                raise RuntimeError("status %d: %s" % (response[2], response.get(3, b"").decode()))
            return payload
        if 4 in header and 2 not in fields(header[4]):
            write_frame(conn, field(4, header[4] + field(2, 1)))  # A ping: send it back.
        if 5 in header:
            raise ConnectionError("goaway: %s" % fields(header[5]).get(3, b"").decode())


def derive(conn, call_id, path, context=b"", length=32):
    request = field(1, path) + field(2, context) + field(3, length)
    return fields(call(conn, call_id, b"novakms.v1.KmsService/Derive", request))[1]


def main(where, chain_id, server_wallet, key_file, path, context="", length="32"):
    host, port = where.rsplit(":", 1)
    with open(key_file, encoding="ascii") as file:
        key = bytes.fromhex(file.read().strip())
    wallet_key = ecdsa.SigningKey.from_string(key, ecdsa.SECP256k1)
    with connect((host, int(port)), int(chain_id), bytes.fromhex(server_wallet[2:]),
                 wallet_key) as conn:
        print(derive(conn, 1, os.fsencode(path), os.fsencode(context), int(length)).hex())


if __name__ == "__main__":
    main(*sys.argv[1:])
