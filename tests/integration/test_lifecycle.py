# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping and configuring a node."""
import json
import os
import re
import signal
import stat
import subprocess
import threading
import time

import pytest

import harness
from harness import DEADLINE_S, UNAVAILABLE, CallError, Closed, Node, kms_pb, program


def run(arguments, **env):
    return subprocess.run([program("nova-kms")] + list(map(str, arguments)), capture_output=True,
                          text=True, timeout=DEADLINE_S, check=False, stdin=subprocess.DEVNULL,
                          env=harness.plain_environment(env))


def run_dev(directory, **env):
    return run(["--dev", "--dir", directory, "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"], **env)


# --- Start -------------------------------------------------------------------------------------------

def test_what_a_start_leaves(tmp_path):
    directory = tmp_path / "new" / "node"
    directory.parent.mkdir()
    node = Node(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.iterdir():
        if path.is_file() and "key" in path.name:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    ready = [line for line in node.output().splitlines() if "%s:%d" % node.rpc in line]
    assert any("%s:%d" % node.http in line for line in ready), node.output()
    wallet = node.wallet
    node.stop()
    node.start()  # The same identity, and the registry as it was left.
    assert node.wallet == wallet
    node.stop()


def test_no_core_dump_could_hold_a_key(node):
    limits = open("/proc/%d/limits" % node.process.pid, encoding="ascii").read()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M)


def test_values_do_not_survive_and_keys_do(tmp_path):
    node = Node(tmp_path)
    wallet, conn = node.new_app()
    with conn:
        key = conn.call("Derive", path=b"p").key
        conn.call("Put", key=b"k", value=b"v")
    node.stop()
    node.start()
    with node.connect_until_known(wallet) as conn:
        assert conn.call("Derive", path=b"p").key == key
        with harness.fails(harness.NOT_FOUND):
            conn.call("Get", key=b"k")
    node.stop()


def test_a_secret_of_its_own_without_one_given(tmp_path_factory):
    hashes = set()
    for _ in range(2):
        node = Node(tmp_path_factory.mktemp("node"), start=False)
        del node.env["MASTER_SECRET_HEX"]
        node.start()
        with node.connect() as conn:
            hashes.add(conn.call("NodeService/GetStatus").master_secret_hash)
        node.stop()
    assert len(hashes) == 2


def test_two_nodes_on_one_directory(tmp_path):
    node = Node(tmp_path)
    before = (tmp_path / "node.json").read_bytes()
    second = run_dev(tmp_path)
    assert second.returncode not in (0, None)
    assert str(tmp_path) in second.stderr + second.stdout
    assert (tmp_path / "node.json").read_bytes() == before
    with node.connect() as conn:
        conn.call("NodeService/GetStatus")
    node.stop()


def test_two_nodes_on_one_port(tmp_path_factory, node):
    done = run(["--dev", "--dir", tmp_path_factory.mktemp("node"), "--rpc", "%s:%d" % node.rpc,
                "--http", "127.0.0.1:0"])
    assert done.returncode not in (0, None)
    assert str(node.rpc[1]) in done.stderr + done.stdout


def test_a_directory_that_cannot_be_used(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for directory in (file, file / "below", "/proc/self/nothing"):
        done = run_dev(directory)
        assert done.returncode not in (0, None)
        assert str(directory) in done.stderr + done.stdout


@pytest.mark.parametrize("workers", [1, 8])
def test_numbers_of_workers(make_node, workers):
    node = make_node(NODE_WORKERS=workers)
    conns = [node.new_app()[1] for _ in range(12)]
    for turn in range(3):
        for conn in conns:
            conn.call("Put", key=b"k", value=b"%d" % turn)
            assert conn.call("Get", key=b"k").value == b"%d" % turn
    status = conns[0].call("NodeService/GetStatus")
    assert len({w for w in status.writers}) == len(status.writers) >= 1
    for conn in conns:
        conn.close()


def test_ipv6(tmp_path):
    node = Node(tmp_path, args=["--rpc", "[::1]:0", "--http", "[::1]:0"])
    assert node.rpc[0] == node.http[0] == "::1"
    wallet, conn = node.new_app()
    with conn:
        conn.call("Derive", path=b"p")
    with harness.socket.create_connection(node.http, timeout=DEADLINE_S) as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert b" 200 " in sock.recv(4096)
    node.stop()


# --- Configuration -----------------------------------------------------------------------------------

WRONG = {
    "NODE_WORKERS": ["0", "9", "-1", "two", "1.5", " 2", "2 ", "99999999999999999999"],
    "MAX_VALUE_SIZE": ["0", "10000000", "1k"],
    "MAX_APP_STORAGE": ["1"],
    "RATE_LIMIT_PER_MINUTE": ["-5", "1e3"],
    "MAX_CLOCK_SKEW_MS": ["0"],
    "TOMBSTONE_RETENTION_MS": ["1"],
    "REGISTRY_CACHE_TTL_SECONDS": ["0", "1000000"],
    "LOG_LEVEL": ["LOUD"],
    "IN_ENCLAVE": ["maybe"],
    "MASTER_SECRET_HEX": ["42", "zz" * 32, "42" * 33],
    "CHAIN_ID": ["0", "x"],
    "NODE_URL": ["not a url"],
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_value_is_named(tmp_path, name):
    for value in WRONG[name]:
        done = run_dev(tmp_path, **{name: value})
        assert done.returncode == 2, (value, done.stderr)
        assert name in done.stderr, done.stderr
        if name == "MASTER_SECRET_HEX":
            assert value not in done.stderr + done.stdout, "a secret is not repeated"


def test_all_wrong_values_are_named_at_once(tmp_path):
    done = run_dev(tmp_path, **{n: v[0] for n, v in WRONG.items()})
    assert done.returncode == 2
    for name in WRONG:
        assert name in done.stderr, name
    assert not (tmp_path / "node.json").exists()


def test_check_config(tmp_path):
    good = run(["--dev", "--dir", tmp_path, "--check-config"], NODE_WORKERS="3",
               MASTER_SECRET_HEX="ab" * 32)
    assert good.returncode == 0, good.stderr
    assert "NODE_WORKERS=3" in good.stdout
    assert "ab" * 32 not in good.stdout + good.stderr
    assert run(["--check-config"], NODE_WORKERS="x").returncode == 2


def test_help_and_version():
    done = run(["--help"])
    assert done.returncode == 0
    for name in WRONG:
        assert name in done.stdout, name
    for flag in ("--dev", "--dir", "--rpc", "--http", "--check-config", "--version"):
        assert flag in done.stdout
    done = run(["--version"])
    assert done.returncode == 0 and re.search(r"\d+\.\d+\.\d+", done.stdout)


@pytest.mark.parametrize("arguments", [
    ["--nonsense"], ["--dir"], ["--dev", "--rpc", "nowhere"], ["--dev", "--rpc", "127.0.0.1:70000"],
    ["--dev", "--http", "127.0.0.1"], ["--dev", "extra"]], ids=" ".join)
def test_wrong_arguments(arguments, tmp_path):
    done = run(arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip()


# --- Stop --------------------------------------------------------------------------------------------

class Load(threading.Thread):
    """One connection that keeps 16 calls in flight until the server says goaway."""

    def __init__(self, node, wallet, idx):
        super().__init__()
        self.conn = node.connect(wallet)
        self.conn.call("WhoAmI")
        self.idx = idx
        self.done = 0
        self.started = threading.Event()
        self.problem = None

    def run(self):
        try:
            self.work()
        except Exception as error:  # Reported by the test.
            self.problem = repr(error)
        finally:
            self.started.set()
            self.conn.close()

    def work(self):
        conn, open_calls, sent = self.conn, set(), {}
        try:
            while conn.goaway is None:
                while len(open_calls) < 16 and conn.goaway is None:
                    n = len(sent)
                    call_id = conn.begin("KmsService/Put", kms_pb.PutRequest(
                        key=b"%d-%d" % (self.idx, n % 50), value=b"v" * 200).SerializeToString())
                    open_calls.add(call_id)
                    sent[call_id] = n
                conn._keep(*conn.read_frame())
                for call_id in list(conn.responses):
                    answer, _ = conn.responses.pop(call_id)
                    open_calls.remove(call_id)
                    self.count(answer, call_id)
                if self.done > 50:
                    self.started.set()
            while True:  # Until the server closes, answers may still come.
                conn._keep(*conn.read_frame())
        except Closed:
            pass
        for call_id in list(conn.responses):
            answer, _ = conn.responses.pop(call_id)
            open_calls.remove(call_id)
            self.count(answer, call_id)
        assert conn.goaway is not None, "closed without a goaway"
        assert conn.goaway.status == 0, conn.goaway.reason
        lost = [i for i in open_calls if i <= conn.goaway.last_call_id]
        assert not lost, "accepted and never answered: %s" % lost

    def count(self, answer, call_id):
        if answer.status == 0:
            self.done += 1
            return
        assert answer.status == UNAVAILABLE, answer.message
        assert self.conn.goaway is not None and call_id > self.conn.goaway.last_call_id, (
            "an accepted call was refused: " + answer.message)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stop_under_load_loses_no_accepted_call(tmp_path, how):
    node = Node(tmp_path)
    wallet, conn = node.new_app()
    conn.close()
    loads = [Load(node, wallet, i) for i in range(8)]
    for load in loads:
        load.start()
    for load in loads:
        assert load.started.wait(DEADLINE_S)
    node.stop(how)  # Checks exit 0.
    for load in loads:
        load.join(DEADLINE_S)
        assert load.problem is None, load.problem
        assert load.done > 50


def begin_waiting_read(conn):
    """A read of what nobody wrote is under way, for READ_WAIT_MS. Gives its call id."""
    seen = harness.frame_pb.Stamp(hlc=1 << 40, writer=b"\5" * 16)
    get = kms_pb.GetRequest(key=b"k", seen=seen)
    call_id = conn.begin("KmsService/Get", get.SerializeToString(), timeout_ms=60000)
    conn.call("WhoAmI")
    return call_id


def test_stop_finishes_calls_that_wait(tmp_path):
    node = Node(tmp_path, env={"READ_WAIT_MS": "2000"})
    wallet, conn = node.new_app()
    with conn:
        call_id = begin_waiting_read(conn)
        node.process.send_signal(signal.SIGTERM)
        answer, _ = conn.finish(call_id)
        assert answer.status == harness.NOT_FOUND and answer.details.may_miss
        assert conn.drain().status == 0
    node.stop(None)


def test_stop_does_not_wait_for_idle_or_silent_connections(tmp_path):
    node = Node(tmp_path)
    wallet, conn = node.new_app()
    silent = harness.socket.create_connection(node.rpc)
    with conn, silent:
        began = time.monotonic()
        node.stop()
        assert time.monotonic() - began < 9, "it waited for the silent peer's handshake (10 s)"
        assert conn.drain().status == 0


def test_stop_refuses_new_connections(tmp_path):
    node = Node(tmp_path, env={"READ_WAIT_MS": "3000"})
    wallet, conn = node.new_app()
    with conn:
        begin_waiting_read(conn)
        node.process.send_signal(signal.SIGTERM)
        while conn.goaway is None:
            conn.read_frame()
        try:
            with node.connect(wallet) as late:
                late.call("WhoAmI")
            raise AssertionError("a new connection was served")
        except (OSError, Closed):
            pass
        except CallError as error:
            assert error.code == UNAVAILABLE
    node.stop(None)


def test_a_second_signal_stops_at_once(tmp_path):
    node = Node(tmp_path, env={"READ_WAIT_MS": "60000"})
    wallet, conn = node.new_app()
    with conn:
        begin_waiting_read(conn)
        node.process.send_signal(signal.SIGTERM)
        while conn.goaway is None:
            conn.read_frame()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    node.process = None


def test_a_drain_has_an_end(tmp_path):
    """A call that would wait longer is ended, and so is a client that does not read."""
    node = Node(tmp_path, env={"READ_WAIT_MS": "60000", "DRAIN_TIMEOUT_SECONDS": "1"})
    wallet, conn = node.new_app()
    with conn:
        begin_waiting_read(conn)
        node.stop()


def test_a_stop_right_after_the_start(tmp_path_factory):
    for _ in range(3):
        Node(tmp_path_factory.mktemp("node")).stop(signal.SIGINT)


def test_node_json_goes_with_the_node(tmp_path):
    """Or at least is not mistaken for a running node's: a client must not wait for a dead one."""
    node = Node(tmp_path)
    pid = node.process.pid
    info = json.loads((tmp_path / "node.json").read_text())
    assert {"rpc", "http", "wallet"} <= set(info)
    node.stop()
    assert not (tmp_path / "node.json").exists() or not os.path.exists("/proc/%d" % pid)
