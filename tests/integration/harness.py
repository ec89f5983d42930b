# SPDX-License-Identifier: Apache-2.0
"""What the integration tests stand on: real nodes on loopback, and a protocol client that can also
do everything wrong. Nothing here asserts speed: waits are for a condition, with a deadline that
even a sanitizer build on a busy machine keeps (NOVA_TEST_DEADLINE_SECONDS)."""
import contextlib
import datetime
import functools
import hashlib
import importlib
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import ecdsa
from Cryptodome.Hash import keccak
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ecdsa.util import sigencode_string_canonize

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NOVA_BUILD_DIR", ROOT / "build")).resolve()
DEADLINE_S = float(os.environ.get("NOVA_TEST_DEADLINE_SECONDS", "120"))
CHAIN_ID = 84532
OID = "1.2.840.113556.1.8000.2554.54442.52556.57328.19061.40783.12347439.3214903.1"
ALPN = "novakms/1"
FRAME_BYTES_ANONYMOUS = 16 * 1024
FRAME_BYTES_MAX = 4 * 1024 * 1024
MASTER_SECRET = "42" * 32

# Status codes, as gRPC numbers them.
OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 7, 8, 9
UNIMPLEMENTED, INTERNAL = 12, 13
UNAVAILABLE, UNAUTHENTICATED = 14, 16


@functools.lru_cache(None)
def program(name):
    """The path of a built program."""
    for path in sorted(BUILD.rglob(name)):
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise FileNotFoundError("%s is not built in %s (NOVA_BUILD_DIR)" % (name, BUILD))


def sanitized():
    """Whether the programs are built with a sanitizer: memory figures mean nothing then."""
    cache = BUILD / "CMakeCache.txt"
    found = re.search(r"^NOVA_SANITIZE:\w+=(.*)$", cache.read_text(), re.M)
    return bool(found and found.group(1) not in ("", "OFF", "none"))


def eventually(what, condition, deadline_s=None, every_s=0.02):
    """Waits until condition() is true and gives its value; fails with `what` past the deadline."""
    end = time.monotonic() + (deadline_s or DEADLINE_S)
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "not in time: " + what
        time.sleep(every_s)


# --- messages ----------------------------------------------------------------------------------------

def _generate():
    out = tempfile.TemporaryDirectory(prefix="nova-pb-")
    protos = [str(p) for p in sorted((ROOT / "proto/novakms/v1").glob("*.proto"))]
    subprocess.run(["protoc", "-I", str(ROOT / "proto"), "--python_out=" + out.name] + protos,
                   check=True)
    sys.path.insert(0, out.name)
    modules = [importlib.import_module("novakms.v1.%s_pb2" % n) for n in ("frame", "kms", "node")]
    return out, modules


_generated, (frame_pb, kms_pb, node_pb) = _generate()


def messages(method):
    """The request and response classes of "KmsService/Derive"."""
    module = {"KmsService": kms_pb, "NodeService": node_pb}[method.split("/")[0]]
    name = method.split("/")[1]
    return getattr(module, name + "Request"), getattr(module, name + "Response")


# --- wallets and certificates ------------------------------------------------------------------------

def keccak256(data):
    return keccak.new(digest_bits=256, data=data).digest()


def spki_der(public_key):
    return public_key.public_bytes(serialization.Encoding.DER,
                                   serialization.PublicFormat.SubjectPublicKeyInfo)


class Binding:
    """What a certificate is made from; tests change fields before make()."""

    def __init__(self, wallet, lifetime_s=3600, chain_id=CHAIN_ID):
        now = int(time.time())
        self.signer = wallet
        self.wallet = wallet.address
        self.chain_id = chain_id
        self.not_before, self.not_after = now - 10, now - 10 + lifetime_s
        self.tls_key = ec.generate_private_key(ec.SECP256R1())
        self.claimed_key = None       # The key in the signed text, when not the TLS key.
        self.certificate_dates = None  # The certificate's own dates, when not the binding's.
        self.signature = None         # Bytes instead of the right signature.
        self.v_offset = 0             # Added to v: -27 makes 0 and 1 of 27 and 28.
        self.value = None             # Bytes instead of the whole extension value.
        self.oid = OID
        self.critical = False
        self.extensions = []          # More (oid, value) pairs.
        self.host = None

    def text(self):
        key = self.claimed_key or self.tls_key
        spki = hashlib.sha256(spki_der(key.public_key())).hexdigest()
        return ("NovaKMS:TLS:v1:%d:%s:%d:%d" % (self.chain_id, spki, self.not_before,
                                               self.not_after)).encode()

    def extension(self):
        if self.value is not None:
            return self.value
        signature = self.signature
        if signature is None:
            signature = self.signer.sign(self.text())
            signature = signature[:64] + bytes([signature[64] + self.v_offset])
        return frame_pb.TlsBinding(wallet=self.wallet, not_before=self.not_before,
                                   not_after=self.not_after,
                                   signature=signature).SerializeToString()

    def make(self):
        """PEM of certificate and key."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        dates = self.certificate_dates or (self.not_before, self.not_after)
        start, end = (datetime.datetime.fromtimestamp(t, datetime.timezone.utc) for t in dates)
        builder = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
                   .public_key(self.tls_key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(start).not_valid_after(end))
        if self.host:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(self.host)]), critical=False)
        if self.oid:
            builder = builder.add_extension(x509.UnrecognizedExtension(
                x509.ObjectIdentifier(self.oid), self.extension()), critical=self.critical)
        for oid, value in self.extensions:
            builder = builder.add_extension(x509.UnrecognizedExtension(
                x509.ObjectIdentifier(oid), value), critical=False)
        return (builder.sign(self.tls_key, hashes.SHA256())
                .public_bytes(serialization.Encoding.PEM) + pem_of_key(self.tls_key))


def pem_of_key(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


class Wallet:
    """A secp256k1 key."""

    def __init__(self, key=None):
        """A new one, or of a key: 32 bytes, or the text of a key file."""
        if isinstance(key, str):
            key = bytes.fromhex(key.strip())
        self.key = key or os.urandom(31) + b"\1"
        self.signing_key = ecdsa.SigningKey.from_string(self.key, ecdsa.SECP256k1)
        self.public = self.signing_key.verifying_key.to_string()
        self.address = keccak256(self.public)[12:]
        self.text = "0x" + self.address.hex()

    def sign(self, text):
        """EIP-191, 65 bytes."""
        digest = keccak256(b"\x19Ethereum Signed Message:\n%d" % len(text) + text)
        rs = self.signing_key.sign_digest_deterministic(digest, hashfunc=hashlib.sha256,
                                                        sigencode=sigencode_string_canonize)
        keys = ecdsa.VerifyingKey.from_public_key_recovery_with_digest(
            rs, digest, ecdsa.SECP256k1, hashfunc=hashlib.sha256)
        return rs + bytes([27 + [k.to_string() for k in keys].index(self.public)])

    def pem(self, **changes):
        """A good certificate with its key, or one with these fields of Binding changed."""
        binding = Binding(self)
        for name, value in changes.items():
            assert hasattr(binding, name), name
            setattr(binding, name, value)
        return binding.make()


# --- the client --------------------------------------------------------------------------------------

class CallError(Exception):
    def __init__(self, response):
        super().__init__("status %d: %s" % (response.status, response.message))
        self.code = response.status
        self.message = response.message
        self.details = response.details


class Closed(Exception):
    """The other side ended the connection; `goaway` is its last goaway, or None."""

    def __init__(self, goaway=None):
        super().__init__("closed" + (": %d %s" % (goaway.status, goaway.reason) if goaway else ""))
        self.goaway = goaway


def tls_context(pem=None, alpn=(ALPN,), version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if pem is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


class Conn:
    """One connection. Frames from the server that nobody waits for yet are kept."""

    def __init__(self, address, pem=None, context=None, timeout_s=None):
        self.sock = socket.create_connection(address, timeout=timeout_s or DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.tls = (context or tls_context(pem)).wrap_socket(self.sock)
        except BaseException:
            self.sock.close()
            raise
        self.input = b""
        self.next_id = 1
        self.responses = {}
        self.goaway = None
        self.pings = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.tls.close()

    # Raw.
    def send(self, data):
        try:
            self.tls.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as error:
            # What the server said before it closed may still be there to read.
            self.drain()
            raise Closed(self.goaway) from error

    @staticmethod
    def frame(header, payload=b""):
        if not isinstance(header, bytes):
            header = header.SerializeToString()
        return struct.pack(">IH", 2 + len(header) + len(payload), len(header)) + header + payload

    def send_frame(self, header, payload=b""):
        self.send(self.frame(header, payload))

    def _receive(self, size):
        while len(self.input) < size:
            try:
                part = self.tls.recv(1 << 18)
            except socket.timeout:
                raise AssertionError("nothing came from the server in time") from None
            except (ConnectionResetError, ssl.SSLError):
                part = b""
            if not part:
                raise Closed(self.goaway)
            self.input += part
        data, self.input = self.input[:size], self.input[size:]
        return data

    def read_frame(self):
        """The next frame, or Closed."""
        size, header_size = struct.unpack(">IH", self._receive(6))
        body = self._receive(size - 2)
        header = frame_pb.FrameHeader()
        header.ParseFromString(body[:header_size])
        if header.WhichOneof("kind") == "goaway":
            self.goaway = header.goaway
        return header, body[header_size:]

    def drain(self):
        """Reads until the server closes; gives its goaway, or None."""
        with contextlib.suppress(Closed):
            while True:
                self._keep(*self.read_frame())
        return self.goaway

    def _keep(self, header, payload):
        kind = header.WhichOneof("kind")
        if kind == "response":
            self.responses[header.response.call_id] = (header.response, payload)
        elif kind == "ping" and header.ping.ack:
            self.pings.append(header.ping.token)
        elif kind == "ping":
            answer = frame_pb.FrameHeader()
            answer.ping.token, answer.ping.ack = header.ping.token, True
            self.send_frame(answer)

    # Calls.
    @staticmethod
    def request_header(call_id, method, timeout_ms=0):
        header = frame_pb.FrameHeader()
        header.request.call_id = call_id
        header.request.method = method
        header.request.timeout_ms = timeout_ms
        return header

    def request_frame(self, method, payload=b"", timeout_ms=0):
        """Bytes of a request under the next call id, and the id."""
        call_id, self.next_id = self.next_id, self.next_id + 1
        if "." not in method:
            method = "novakms.v1." + method
        return self.frame(self.request_header(call_id, method, timeout_ms), payload), call_id

    def begin(self, method, payload=b"", timeout_ms=0):
        data, call_id = self.request_frame(method, payload, timeout_ms)
        self.send(data)
        return call_id

    def finish(self, call_id):
        """(Response header, payload) of a call begun before."""
        while call_id not in self.responses:
            self._keep(*self.read_frame())
        return self.responses.pop(call_id)

    def call_raw(self, method, payload=b"", timeout_ms=0):
        """The response's payload; CallError unless OK."""
        header, answer = self.finish(self.begin(method, payload, timeout_ms))
        if header.status != OK:
            assert answer == b"", "an error carries no payload"
            assert header.message, "an error says what was wrong"
            raise CallError(header)
        assert header.message == ""
        return answer

    def call(self, method, timeout_ms=0, **arguments):
        """kms.call("Put", key=b"k", value=b"v"): the response message."""
        if "/" not in method:
            method = "KmsService/" + method
        request, response = messages(method)
        answer = response()
        answer.ParseFromString(
            self.call_raw(method, request(**arguments).SerializeToString(), timeout_ms))
        return answer

    def ping(self, token):
        header = frame_pb.FrameHeader()
        header.ping.token = token
        self.send_frame(header)
        while token not in self.pings:
            self._keep(*self.read_frame())
        self.pings.remove(token)


@contextlib.contextmanager
def fails(code, text=None):
    """The block must end in a CallError with this code, and this text in its message."""
    error = None
    try:
        yield
    except CallError as caught:
        error = caught
    assert error is not None, "the call succeeded, status %d was expected" % code
    assert error.code == code, str(error)
    assert text is None or text in error.message, error.message


# --- nodes -------------------------------------------------------------------------------------------

def plain_environment(extra=None):
    """Ours, without what would configure a node or route its connections."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS",
             "TSAN_OPTIONS", "LSAN_OPTIONS", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE")
    env = {n: os.environ[n] for n in names if n in os.environ}
    env.update(extra or {})
    return env


def check_end(process, output):
    """Waits for a node that was asked to end, and checks that it did so well. output() is its log."""
    try:
        code = process.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = "killed by the test"
    log = output()
    assert code == 0, "exit %s:\n%s" % (code, log[-6000:])
    for sign in ("Sanitizer", "runtime error:", "panic"):
        assert sign not in log, log[-20000:]


class Node:
    """`nova-kms --dev` in a directory of its own. A new directory is prepared with a registry of
    APP_COUNT apps beside the node, for new_app(): a wallet that is enrolled while the node runs is
    known only after a while."""

    APP_COUNT = 40

    def __init__(self, directory, env=None, args=(), start=True):
        self.dir = pathlib.Path(directory)
        self.env = {"MASTER_SECRET_HEX": MASTER_SECRET, "NODE_WORKERS": "2",
                    "RATE_LIMIT_PER_MINUTE": "0"}
        self.env.update(env or {})
        self.args = list(args)
        self.process = None
        self.out = self.err = None
        self.apps = []
        self.dir.mkdir(mode=0o700, exist_ok=True)
        if not self.registry_path.exists():
            self._prepare()
        if start:
            self.start()

    def _prepare(self):
        """As the node would make it, and APP_COUNT more apps."""
        wallets = Wallet(), Wallet()
        for wallet, name in zip(wallets, ("node.key", "app.key")):
            with open(os.open(self.dir / name, os.O_WRONLY | os.O_CREAT, 0o600), "w",
                      encoding="ascii") as file:
                file.write(wallet.key.hex() + "\n")
        self.write_registry(json.dumps({"kms_app_id": 49, "apps": [], "versions": [],
                                        "instances": []}))
        self.enrol(wallets[0], app_id=49)
        self.enrol(wallets[1], app_id=1001)
        for _ in range(self.APP_COUNT):
            wallet = Wallet()
            wallet.app_id = self.enrol(wallet)
            self.apps.append(wallet)

    def start(self):
        info = self.dir / "node.json"
        info.unlink(missing_ok=True)
        log = tempfile.mkdtemp(prefix="nova-log-")
        self.out, self.err = pathlib.Path(log, "out"), pathlib.Path(log, "err")
        command = [program("nova-kms"), "--dev", "--dir", str(self.dir), "--rpc", "127.0.0.1:0",
                   "--http", "127.0.0.1:0"] + self.args
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, env=plain_environment(self.env))
        eventually("node.json", lambda: self._alive() and info.exists())
        self.info = json.loads(info.read_text())
        self.rpc = parse_address(self.info["rpc"])
        self.http = parse_address(self.info["http"])
        self.wallet = self.info["wallet"]
        return self

    def _alive(self):
        assert self.process.poll() is None, "the node ended:\n" + self.output()
        return True

    def output(self):
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def stop(self, how=signal.SIGTERM):
        """Asks it to end (unless how is None: it was asked), and checks that it did so well."""
        if self.process is None:
            return
        if how is not None and self.process.poll() is None:
            self.process.send_signal(how)
        process, self.process = self.process, None
        check_end(process, self.output)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    # The registry.
    @property
    def registry_path(self):
        return self.dir / "registry.json"

    def registry(self):
        return json.loads(self.registry_path.read_text())

    def write_registry(self, text):
        """Replaces the file in one step, as an operator's tool would."""
        new = self.registry_path.with_suffix(".new")
        new.write_text(text)
        os.chmod(new, 0o600)
        os.replace(new, self.registry_path)

    @contextlib.contextmanager
    def edit(self):
        registry = self.registry()
        yield registry
        self.write_registry(json.dumps(registry, indent=1))

    def enrol(self, wallet, app_id=None, **changes):
        """Registers a wallet (as a new app, unless app_id is given); gives its app id."""
        with self.edit() as registry:
            ids = [int(a["id"]) for a in registry["apps"]]
            if app_id is None:
                app_id = max([1000] + [i for i in ids if i < 2 ** 32]) + 1
            if app_id not in ids:
                registry["apps"].append({"id": str(app_id), "status": "ACTIVE"})
            version = [v for v in registry["versions"] if int(v["appId"]) == app_id]
            if not version:
                version = [{"id": str(max([int(v["id"]) for v in registry["versions"]] + [0]) + 1),
                            "appId": str(app_id), "status": "ENROLLED"}]
                registry["versions"] += version
            instance = {"id": max([int(i["id"]) for i in registry["instances"]] + [0]) + 1,
                        "appId": str(app_id), "versionId": version[0]["id"],
                        "teeWalletAddress": wallet.text, "zkVerified": True, "status": "ACTIVE"}
            instance.update(changes)
            registry["instances"].append(instance)
        return app_id

    def change_instance(self, wallet, **changes):
        with self.edit() as registry:
            for instance in registry["instances"]:
                if instance["teeWalletAddress"] == wallet.text:
                    instance.update(changes)

    # Connections.
    def connect(self, wallet=None, **options):
        return Conn(self.rpc, pem=wallet.pem() if wallet else None, **options)

    def connect_until_known(self, wallet):
        """Connects as a wallet that has just been enrolled, until the node has read of it."""
        def attempt():
            conn = self.connect(wallet)
            try:
                conn.call("WhoAmI")
                return conn
            except (CallError, Closed):
                conn.close()
                return None
        return eventually("the wallet is known", attempt, every_s=0.1)

    def new_app(self):
        """A wallet with an app of its own, not used before, and a connection of it that the node has
        accepted."""
        wallet = self.apps.pop()
        conn = self.connect(wallet)
        conn.call("NodeService/GetStatus")  # Is not read before that, and counts for no limit.
        return wallet, conn

    def get(self, path, port="http", method="GET", headers=None):
        """(status, headers, body) over the plain port, or with port "rpc" over the TLS port."""
        scheme, address = ("http", self.http) if port == "http" else ("https", self.rpc)
        context = tls_context(alpn=("http/1.1",)) if port == "rpc" else None
        request = urllib.request.Request("%s://%s:%d%s" % ((scheme,) + address + (path,)),
                                         method=method, headers=headers or {})
        handlers = [urllib.request.ProxyHandler({})]
        if context:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(request, timeout=DEADLINE_S) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def memory_kib(self):
        status = pathlib.Path("/proc/%d/status" % self.process.pid).read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M).group(1))


def parse_address(text):
    host, port = text.rsplit("//", 1)[-1].rstrip("/").rsplit(":", 1)
    return host.strip("[]"), int(port)


# --- a server that is not a node ---------------------------------------------------------------------

class ImpostorServer:
    """A TLS server with a certificate of the test's making. Records what clients send."""

    def __init__(self, pem, version=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            self.context.load_cert_chain(file.name)
            # Asks for a client certificate; one that is sent fails the handshake with an error
            # that names it, so that it cannot go unnoticed.
            self.context.load_verify_locations(file.name)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.set_alpn_protocols([ALPN])
        if version is not None:
            self.context.minimum_version = self.context.maximum_version = version
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.connections = 0
        self.handshakes = 0      # That the client completed.
        self.certificates = 0    # Client certificates seen.
        self.received = b""      # Application data.
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # accept() does not notice a close; a last connection wakes it.
        self.closing = True
        with contextlib.suppress(OSError):
            socket.create_connection(self.address, timeout=5).close()
        self.thread.join(DEADLINE_S)
        self.listener.close()

    closing = False

    def _serve(self):
        while True:
            sock, _ = self.listener.accept()
            if self.closing:
                sock.close()
                return
            self.connections += 1
            with sock:
                self._one(sock)

    def _one(self, sock):
        sock.settimeout(DEADLINE_S)
        try:
            with self.context.wrap_socket(sock, server_side=True) as tls:
                self.handshakes += 1
                if tls.getpeercert(binary_form=True):
                    self.certificates += 1
                while True:
                    data = tls.recv(65536)
                    if not data:
                        return
                    self.received += data
        except ssl.SSLCertVerificationError:
            self.certificates += 1
        except OSError:
            return
