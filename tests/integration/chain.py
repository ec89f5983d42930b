# SPDX-License-Identifier: Apache-2.0
"""A real EVM chain with the contracts, an Odyn for each node, and nodes as they are deployed."""
import contextlib
import http.server
import json
import os
import pathlib
import random
import re
import signal
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from harness import (CHAIN_ID, DEADLINE_S, ROOT, CallError, Closed, Conn, Wallet, check_end,
                     eventually, keccak256, parse_address, plain_environment, program)

CONTRACTS = pathlib.Path(os.environ.get("NOVA_CONTRACTS_DIR", ROOT / "contracts"))
ANVIL = CONTRACTS / "node_modules/.bin/anvil"
KMS_APP, SAMPLE_APP = 49, 1001
ACTIVE, INACTIVE = 0, 1
ETHER = 10 ** 18
ZERO_ADDRESS = "0x" + "0" * 40
ZERO_HASH = "0x" + "0" * 64
MEASUREMENT = b"\x07" * 32


def check_built():
    assert ANVIL.exists() and (CONTRACTS / "out/KMSRegistry.sol/KMSRegistry.json").exists(), \
        "the contracts are not built: make -C contracts build"


def word(value):
    if isinstance(value, str):  # An address.
        value = int(value, 16)
    return value.to_bytes(32, "big")


def encode(*values):
    """Solidity's ABI: int, "0x" address and bytes32 (b32) are words, bytes and text are dynamic."""
    head, tail = b"", b""
    for value in values:
        if isinstance(value, B32):
            head += value
        elif isinstance(value, bytes) or (isinstance(value, str) and not value.startswith("0x")):
            data = value.encode() if isinstance(value, str) else value
            head += word(32 * len(values) + len(tail))
            tail += word(len(data)) + data + bytes(-len(data) % 32)
        else:
            head += word(value)
    return head + tail


class B32(bytes):
    """A bytes32."""


def calldata(signature, *values):
    return "0x" + (keccak256(signature.encode())[:4] + encode(*values)).hex()


def free_port():
    """For a port that must be known before its server starts. The kernel gives it to nobody else: its
    own choices are from 32768 on."""
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            port = random.randrange(10000, 32768)
            sock.bind(("127.0.0.1", port))
            return port


def post(url, value):
    request = urllib.request.Request(url, json.dumps(value).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        return json.loads(answer.read() or b"null")


class Chain:
    """anvil with a block each second, both registries, the KMS app and a sample app."""

    def __init__(self):
        check_built()
        self.dir = tempfile.TemporaryDirectory(prefix="nova-chain-")
        with open(self.dir.name + "/anvil.log", "wb") as log:
            self.process = subprocess.Popen(
                [str(ANVIL), "--port", "0", "--chain-id", str(CHAIN_ID), "--block-time", "1"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=plain_environment(),
                start_new_session=True)  # npm's anvil is a script around the real one.
        self.url = "http://" + eventually("anvil listens", self._listens, every_s=0.1).group(1)
        self.owner = self.rpc("eth_accounts")[0]
        self.nonce = 0
        self.deploy()

    def _listens(self):
        log = pathlib.Path(self.dir.name, "anvil.log").read_text()
        assert self.process.poll() is None, log
        return re.search(r"^Listening on (127\.0\.0\.1:\d+)$", log, re.M)

    def close(self):
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.dir.cleanup()

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def rpc(self, method, *params):
        answer = post(self.url, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert "error" not in answer, answer
        return answer["result"]

    def send(self, to, data="0x", value=0):
        """Gives the transaction's hash; it is in no block yet."""
        tx = {"from": self.owner, "data": data, "value": hex(value), "gas": hex(8_000_000),
              "nonce": hex(self.nonce)}
        if to:
            tx["to"] = to
        self.nonce += 1
        return self.rpc("eth_sendTransaction", tx)

    def wait(self, tx):
        receipt = eventually("a transaction is in a block",
                             lambda: self.rpc("eth_getTransactionReceipt", tx), every_s=0.1)
        assert receipt["status"] == "0x1", receipt
        return receipt

    def begin(self, to, signature, *values):
        """Gives the transaction's hash. What is waited for later comes after it, mostly in its block."""
        return self.send(to, calldata(signature, *values))

    def run(self, to, signature, *values):
        return self.wait(self.begin(to, signature, *values))

    def create(self, name, *values):
        """Gives the address; the contract is in no block yet."""
        path, = (CONTRACTS / "out").glob("*/%s.json" % name)
        code = json.loads(path.read_text())["bytecode"]["object"]
        nonce = bytes([self.nonce]) if self.nonce else b"\x80"
        self.last = self.send(None, code + encode(*values).hex())
        return "0x" + keccak256(b"\xd6\x94" + bytes.fromhex(self.owner[2:]) + nonce)[12:].hex()

    def deploy(self):
        self.apps = self.create("NovaAppRegistry")
        self.verifier = self.create("DevVerifier")
        self.kms = self.create("KMSRegistry", self.apps)
        self.begin(self.kms, "setKmsAppId(uint256)", KMS_APP)
        self.add_app(KMS_APP, self.kms)
        self.wait(self.add_app(SAMPLE_APP))

    def add_app(self, app, contract=ZERO_ADDRESS):
        """With version 1; gives the last transaction."""
        self.begin(self.apps, "createAppWithId(uint256,address,string,address)", app, contract,
                   "about", ZERO_ADDRESS)
        self.begin(self.apps, "setVerifier(uint256,address)", app, self.verifier)
        return self.begin(self.apps, "enrollVersion(uint256,string,bytes32,string)", app, "v1",
                          B32(MEASUREMENT), "image")

    def begin_register(self, wallet, app, url="", tee_pubkey=b"\x01", version=1):
        proof = keccak256(MEASUREMENT + word(wallet) + keccak256(tee_pubkey))
        return self.begin(self.apps,
                          "registerInstance(uint256,uint256,address,string,bytes,bytes)", app,
                          version, wallet, url, tee_pubkey, proof)

    def register(self, *instance, **more):
        self.wait(self.begin_register(*instance, **more))

    def stop_instance(self, *wallets):
        """In one block, as far as it has room; gives the last receipt."""
        return [self.wait(tx) for tx in [self.begin(self.apps, "stopInstance(address)", w)
                                         for w in wallets]][-1]

    def set_app_status(self, app, status):
        self.run(self.apps, "setAppStatus(uint256,uint8)", app, status)

    def secret_hash(self):
        return self.rpc("eth_call", {"to": self.kms, "data": calldata("masterSecretHash()")},
                        "latest")

    def reset_hash(self):
        self.run(self.kms, "resetMasterSecretHash()")

    def fund(self, wallet, wei=ETHER):
        self.rpc("anvil_setBalance", wallet, hex(wei))

    def freeze(self):
        """No more blocks."""
        self.rpc("evm_setIntervalMining", 0)

    def thaw(self):
        self.rpc("evm_setIntervalMining", 1)

    def mine(self, count=1):
        """While it is frozen."""
        for _ in range(count):
            self.rpc("evm_mine")

    def pending_count(self):
        return int(self.rpc("txpool_status")["pending"], 16)

    def block(self, number="latest"):
        """(number, timestamp)"""
        block = self.rpc("eth_getBlockByNumber", number, False)
        return int(block["number"], 16), int(block["timestamp"], 16)

    def reorganise(self, depth):
        """As many blocks and one more, without transactions, take the place of the last ones. What was
        in those is gone, from the pool too."""
        former = self.block()[1]
        self.rpc("anvil_reorg", depth, [])
        self._go_on(former)

    def roll_back(self, depth):
        """One block takes the place of the last ones."""
        former = self.block()[1]
        self.rpc("anvil_rollback", depth)
        self._go_on(former)

    def _go_on(self, former):
        """The chain's clock has gone back with the blocks, and what an older block says a node takes
        for old: mines one that is not."""
        self.nonce = int(self.rpc("eth_getTransactionCount", self.owner, "latest"), 16)
        self.rpc("evm_setNextBlockTimestamp", max(former, int(time.time())))
        self.mine()


class Gate:
    """A way to a server that can swallow what is asked on it: connections stay, answers do not come.
    A server that hangs, that is, with a count of what it was asked meanwhile."""

    def __init__(self, url):
        self.target = parse_address(url)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.is_shut = False
        self.swallowed = set()  # Connections that asked while it was shut.
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        # Ends the threads: accept and recv return.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [sock, server]
                for pair in ((sock, server), (server, sock)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink):
        with contextlib.suppress(OSError), source, sink:
            while True:
                data = source.recv(65536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if self.is_shut:
                    self.swallowed.add(source)
                else:
                    sink.sendall(data)


class Withholder:
    """An RPC server before the chain that shows callers' lookups no block after one, while the node's
    own reads see them all: each connection is of one reader, and KMSRegistry tells which."""

    def __init__(self, chain):
        self.newest = None  # The number that lookups are shown, while it is set.
        withholder = self
        own = calldata("masterSecretHash()")

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            is_own = False

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.is_own = self.is_own or own.encode() in body
                if withholder.newest is not None and not self.is_own:
                    body = body.replace(b'"latest"', b'"%s"' % hex(withholder.newest).encode())
                request = urllib.request.Request(chain.url, body,
                                                 {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                    said = answer.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            block_on_close = False

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class WallClock:
    """A node's wall clock, apart from everybody else's. Its monotonic clock stays real."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="nova-clock-")
        self.set_ahead(0)
        options = os.environ.get("ASAN_OPTIONS", "")
        self.env = {"LD_PRELOAD": program("wallclock.so"), "NOVA_WALLCLOCK": self.file.name,
                    "ASAN_OPTIONS": options + ":verify_asan_link_order=0"}

    def set_ahead(self, seconds):
        self.file.seek(0)
        self.file.write(struct.pack("=q", seconds))
        self.file.flush()


class Odyn:
    """odyn-sim on a port that it keeps over a restart."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="nova-odyn-")
        self.port = 0
        self.process = None
        self.start()

    def start(self):
        with open(self.dir.name + "/log", "ab") as log:
            self.process = subprocess.Popen(
                [program("odyn-sim"), "--key-file", self.dir.name + "/keys", "--port",
                 str(self.port)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env=plain_environment())
        line = self.process.stdout.readline().decode()
        self.url = re.search(r"url=(\S+)", line).group(1)
        self.port = parse_address(self.url)[1]
        self.wallet = re.search(r"wallet=(0x[0-9a-f]{40})", line).group(1)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def close(self):
        self.stop()
        self.dir.cleanup()

    def tee_pubkey(self):
        with urllib.request.urlopen(self.url + "/v1/encryption/public_key") as answer:
            return bytes.fromhex(json.loads(answer.read())["public_key_der"][2:])

    def sim(self, call, **fields):
        """"wallet", "fault", ...: odyn-sim's own calls."""
        answer = post(self.url + "/_sim/" + call, fields)
        if call == "wallet":
            with urllib.request.urlopen(self.url + "/v1/eth/address") as address:
                self.wallet = json.loads(address.read())["address"]
        return answer


class LiveNode:
    """nova-kms without --dev, with its Odyn. Its timers are short; a test may lengthen them, or take
    a default with None."""

    URL = "https://node.test:8443"

    def __init__(self, chain, odyn=None, env=None):
        self.chain = chain
        self.odyn = odyn or Odyn()
        self.env = {
            "HELIOS_RPC_URL": chain.url, "ODYN_URL": self.odyn.url, "CHAIN_ID": str(CHAIN_ID),
            "NOVA_APP_REGISTRY_ADDRESS": chain.apps, "KMS_REGISTRY_ADDRESS": chain.kms,
            "KMS_APP_ID": str(KMS_APP), "NODE_URL": self.URL, "NODE_RPC_LISTEN": "127.0.0.1:0",
            "NODE_HTTP_LISTEN": "127.0.0.1:0", "NODE_WORKERS": "2", "HASH_CONFIRMATIONS": "1",
            "KMS_NODE_TICK_SECONDS": "1", "REGISTRY_REFRESH_SECONDS": "1",
            "REGISTRY_CACHE_TTL_SECONDS": "60", "HEAD_STALL_SECONDS": "30"}
        self.env.update(env or {})
        self.env = {name: value for name, value in self.env.items() if value is not None}
        self.process = None
        self.start()

    def register(self, url=None, version=1):
        self.chain.register(self.odyn.wallet, KMS_APP, url or self.URL, self.odyn.tee_pubkey(),
                            version)

    def program(self):
        return program("nova-kms")

    def start(self):
        self.log = tempfile.NamedTemporaryFile(prefix="nova-live-", suffix=".log")
        self.process = subprocess.Popen([self.program()], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log,
                                        env=plain_environment(self.env))
        self.http = parse_address(self.await_log(r"node\.start .*http=(\S+)"))

    def output(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def await_log(self, pattern):
        def found():
            assert self.process.poll() is None, "the node ended:\n" + self.output()
            return re.search(pattern, self.output())
        return eventually(pattern, found).group(1)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        process, self.process = self.process, None
        check_end(process, self.output)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def close(self):
        try:
            self.stop()
        finally:
            self.odyn.close()

    def page(self, path):
        """(HTTP status, JSON)"""
        try:
            with urllib.request.urlopen("http://%s:%d%s" % (*self.http, path),
                                        timeout=DEADLINE_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def metrics(self):
        with urllib.request.urlopen("http://%s:%d/metrics" % self.http) as answer:
            return answer.read().decode()

    def await_reason(self, text):
        """Waits until the node does not serve, for a reason with this text; gives the reason."""
        def found():
            code, health = self.page("/health")
            return code == 503 and text in health["reason"] and health["reason"]
        return self.eventually("out of service: " + text, found)

    def await_ready(self):
        self.eventually("ready", lambda: self.page("/health") == (200, {"status": "healthy"}))

    def eventually(self, what, condition):
        try:
            return eventually(what, condition, every_s=0.1)
        except AssertionError as error:
            raise AssertionError("%s\n%s\n%s" % (error, self.page("/health"),
                                                 self.output()[-6000:])) from error

    def connect(self, wallet=None):
        port = int(self.await_log(r"tls\.renew done .*port=(\d+)"))
        return Conn(("127.0.0.1", port), pem=wallet.pem() if wallet else None)

    def connect_app(self, app=SAMPLE_APP):
        """A connection of a new caller, once the node has heard of it."""
        wallet = Wallet()
        self.chain.register(wallet.text, app)
        return self.connect_known(wallet)

    def connect_known(self, wallet):
        def attempt():
            conn = self.connect(wallet)
            try:
                conn.call("NodeService/GetStatus")  # Is not read before the registry has answered.
                conn.wallet = wallet
                return conn
            except Closed:
                conn.close()
                return None
        return self.eventually("the wallet is known", attempt)

    def refusal(self, wallet):
        """The goaway that a new connection of this wallet gets."""
        with self.connect(wallet) as conn:
            return conn.drain()


class Cluster:
    """Nodes that are started at once, and ready, with a caller that all of them know."""

    def __init__(self, chain, count, **env):
        self.nodes = []
        odyns = [Odyn() for _ in range(count)]
        listens = ["127.0.0.1:%d" % free_port() for _ in range(count)]
        for odyn, listen in zip(odyns, listens):
            chain.fund(odyn.wallet)
            chain.begin_register(odyn.wallet, KMS_APP, "https://" + listen, odyn.tee_pubkey())
        self.caller = Wallet()
        chain.register(self.caller.text, SAMPLE_APP)
        try:
            for odyn, listen in zip(odyns, listens):
                self.nodes.append(LiveNode(chain, odyn, {
                    "NODE_URL": "https://" + listen, "NODE_RPC_LISTEN": listen,
                    "DATA_SYNC_INTERVAL_SECONDS": "1", "START_WAIT_SECONDS": "8", **env}))
            for node in self.nodes:
                node.await_ready()
        except BaseException:
            self.close()
            raise

    def close(self):
        failures = []
        for node in self.nodes:
            try:
                node.close()
            except AssertionError as error:
                failures.append(str(error))
        assert not failures, "\n".join(failures)


def derive(kms):
    return kms.call("Derive", path=b"p", length=32).key


def derive_or_error(kms):
    """(key, None) or (None, CallError)"""
    try:
        return derive(kms), None
    except CallError as error:
        return None, error


def await_refusal(node, kms):
    """The error of the first call that is refused."""
    return node.eventually("the caller is refused", lambda: derive_or_error(kms)[1])


def await_served(node, kms):
    return node.eventually("the caller is served", lambda: derive_or_error(kms)[0])
