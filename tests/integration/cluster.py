# SPDX-License-Identifier: Apache-2.0
"""A cluster as tools/devnet makes it, callers that load it, and what must be true of it afterwards:
all nodes hold the same, and what a quorum acknowledged is there or superseded by a greater stamp."""
import contextlib
import itertools
import pathlib
import random
import re
import ssl
import struct
import sys
import tempfile
import threading
import time
import types

import harness
from harness import BUILD, NOT_FOUND, UNAVAILABLE, CallError, Closed, Conn, Wallet, eventually

sys.path.insert(0, str(harness.ROOT / "tools"))
sys.dont_write_bytecode = True
import devnet_lib  # noqa: E402
from devnet_lib import Failure, is_running  # noqa: E402

QUORUM = 2
# The nodes look at the chain often, so that a test need not wait for them.
SETTINGS = {"KMS_NODE_TICK_SECONDS": "1", "REGISTRY_REFRESH_SECONDS": "1",
            "DATA_SYNC_INTERVAL_SECONDS": "1", "RATE_LIMIT_PER_MINUTE": "0",
            "HASH_CONFIRMATIONS": "1", "PEER_CACHE_TTL_SECONDS": "5", "NODE_WORKERS": "1"}


class Cluster:
    """Nodes are numbered from 1."""

    def __init__(self, count, settings=None, skewed=False, wires=True):
        self.directory = tempfile.TemporaryDirectory(prefix="nova-cluster-")
        self.net = devnet_lib.Devnet(pathlib.Path(self.directory.name) / "devnet")
        self.net.dir.mkdir(mode=0o700)
        self.clocks = {}
        try:
            self.net.up(types.SimpleNamespace(
                nodes=1, build=str(BUILD), start=False, wires=wires, together=False,
                set=list({**SETTINGS, **(settings or {})}.items())))
            self.wallet = Wallet(pathlib.Path(
                self.net.state["sample_app"]["key_file"]).read_text())
            self.pem = self.wallet.pem(not_after=int(time.time()) + 12 * 3600)
            # One joins after the other: each finds all who came before it in service.
            for number in range(1, count + 1):
                if number > 1:
                    node = self.net.make_node(number)
                    self.net.chain.confirm(self.net.admit(node))
                if skewed:
                    self.give_clock(number)
                self.start(number)
                self.await_ready(number)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops everything; the nodes that still run must end well."""
        reports = []
        if self.net.state:
            running = [n for n in self.net.state["nodes"] if self.is_up(n)]
            for node in running:
                with contextlib.suppress(Failure):
                    self.net.order(node, "heal")
            devnet_lib.stop([self.net.find_process(n["name"]) for n in running],
                            devnet_lib.DRAIN_S)
            for node in self.net.state["nodes"]:
                log = self.log(node)
                found = re.search("Sanitizer|runtime error:|panic", log)
                if found:
                    reports.append(log[max(found.start() - 2000, 0):found.start() + 10000])
            devnet_lib.stop(self.net.state["processes"], devnet_lib.STOP_S)
            self.net.state = None
        self.directory.cleanup()
        assert not reports, "\n".join(reports)

    # --- nodes

    @property
    def numbers(self):
        return [int(n["name"][5:]) for n in self.net.state["nodes"]]

    def node(self, number):
        return self.net.node(str(number))

    def is_up(self, node):
        process = self.net.find_process(node["name"])
        return process is not None and is_running(process)

    def log(self, node):
        path = self.net.dir / (node["name"] + ".log")
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, number):
        self.net.start(self.node(number))

    def kill(self, number):
        self.net.kill(self.node(number))

    def stop(self, number):
        self.net.stop(self.node(number))

    def order(self, number, word):
        assert self.net.order(self.node(number), word) == "ok"

    def serves(self, number):
        return self.net.unready(self.node(number)) is None

    def await_ready(self, *numbers):
        for number in numbers or self.numbers:
            try:
                eventually("", lambda n=number: self.serves(n), every_s=0.05)
            except AssertionError:
                node = self.node(number)
                raise AssertionError("%s is not ready: %s\n%s" % (
                    node["name"], self.net.unready(node), self.log(node)[-4000:])) from None

    def give_clock(self, number):
        """A clock of its own, before its first start."""
        path = self.net.dir / ("node-%d.clock" % number)
        path.write_bytes(struct.pack("=q", 0))
        self.clocks[number] = path
        self.node(number)["settings"] = {"NOVA_WALLCLOCK": str(path),
                                         "LD_PRELOAD": harness.program("wallclock.so")}

    def set_clock(self, number, ahead_s):
        """In place: the node has the file mapped."""
        with self.clocks[number].open("r+b") as file:
            file.write(struct.pack("=q", ahead_s))

    def connect(self, number, past_the_wire=False, timeout_s=None):
        """Of the sample app."""
        node = self.node(number)
        host, port = node["listen" if past_the_wire else "rpc"].split(":")
        return Conn((host, int(port)), pem=self.pem, timeout_s=timeout_s)

    def connect_known(self, number, **options):
        """Once the node has heard of the app."""
        def attempt():
            conn = self.connect(number, **options)
            try:
                conn.call("NodeService/GetStatus")
                return conn
            except Closed:
                conn.close()
                return None
        return eventually("the app is known", attempt)

    def ask(self, number, do):
        """do(connection) of a node that serves, or will soon."""
        def attempt():
            try:
                with self.connect_known(number) as conn:
                    return [do(conn)]
            except CallError as error:
                if error.code != UNAVAILABLE:
                    raise
                return None
        return eventually("node-%d serves" % number, attempt, every_s=0.1)[0]

    def page(self, number):
        return self.net.page(self.node(number)) or {}

    def resets(self):
        """How often a node served without being sure to have everything, over all its starts."""
        return sum(len(re.findall(r"replication\.durability_reset ", self.log(n)))
                   for n in self.net.state["nodes"])

    def contents(self, number):
        """{key: stamp} of the app."""
        def read(conn):
            held, token = {}, b""
            while True:
                answer = conn.call("List", limit=1000, page_token=token)
                held.update((e.key, stamp_of(e.stamp)) for e in answer.entries)
                token = answer.next_page_token
                if not token:
                    return held
        return self.ask(number, read)

    def value(self, number, key):
        """What a node holds; None: nothing."""
        return self.ask(number, lambda conn: list(values(conn, [key])))[0][2]

    def await_same(self):
        """Waits until all nodes hold the same, and gives that."""
        def same():
            held = [self.contents(number) for number in self.numbers]
            return [held[0]] if all(h == held[0] for h in held) else None

        try:
            return eventually("", same, every_s=0.1)[0]
        except AssertionError:
            held = {number: self.contents(number) for number in self.numbers}
            raise AssertionError("the nodes hold different data: " + describe(held)) from None


def describe(held):
    """A few keys that differ, with the end of each stamp."""
    keys = sorted({k for h in held.values() for k in h})
    differing = [k for k in keys if len({h.get(k) for h in held.values()}) > 1]
    return "%d keys, such as %s" % (len(differing), ["%r: %s" % (
        k, {n: h.get(k) for n, h in held.items()}) for k in differing[:3]])


def stamp_of(message):
    return message.hlc, message.writer


class Attempt:
    """A write that was tried. `value` None: a delete. `stamp` None: nobody acknowledged it."""

    def __init__(self, value, ttl_ms):
        self.value, self.ttl_ms = value, ttl_ms
        self.stamp = None

    @property
    def vanishes(self):
        return self.value is None or self.ttl_ms > 0

    def may_follow(self, stamp):
        """Whether its stamp, as far as anybody knows, can be greater than this one. One that nobody
        answered can still be made: a hung cable delivers it when it is healed."""
        return self.stamp is None or self.stamp > stamp


class History:
    """What all callers tried and were told. Their keys begin with a prefix of its own; those with
    /drop/ are deleted, or expire, now and then."""

    COUNT = itertools.count(1)

    def __init__(self):
        self.prefix = b"load-%d" % next(self.COUNT)
        self.attempts = {}  # key: [Attempt]
        self.derived = {}   # path: key
        self.counts = {"acked": 0, "unacked": 0, "reads": 0, "derives": 0, "refused": 0}
        self.faults = []    # Sentences.
        self.lock = threading.Lock()

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def fault(self, sentence):
        with self.lock:
            self.faults.append(sentence)

    def begin(self, key, attempt):
        with self.lock:
            self.attempts.setdefault(key, []).append(attempt)

    def saw_key(self, path, key, number):
        with self.lock:
            first = self.derived.setdefault(path, key)
        if key != first:
            self.fault("node-%d derives another key for %r" % (number, path))

    def lost(self, number, key, stamp, value):
        """What is wrong with what a node holds at the end for a key; None: nothing."""
        attempts = self.attempts.get(key, [])
        acked = max((a for a in attempts if a.stamp), key=lambda a: a.stamp, default=None)
        if value is None:
            if acked is None or acked.vanishes:
                return None
            if any(a.vanishes and a.may_follow(acked.stamp) for a in attempts):
                return None
            return "%r is not on node-%d, and was acknowledged" % (key, number)
        made = [a for a in attempts if a.value == value]
        if not made:
            return "%r on node-%d holds what nobody wrote" % (key, number)
        if made[0].stamp is not None and made[0].stamp != stamp:
            return "%r on node-%d has another stamp than its writer was told" % (key, number)
        if acked is not None and stamp < acked.stamp:
            return "%r on node-%d is older than what was acknowledged" % (key, number)
        return None


class Caller(threading.Thread):
    """An application's session: a random call on a node of its choice, again and again. It goes to
    another node when one fails."""

    CALL_MS = 4000

    def __init__(self, cluster, history, seed, **options):
        super().__init__(daemon=True)
        self.cluster, self.history = cluster, history
        self.random = random.Random(seed)
        self.name = "caller-%s" % seed
        self.keys = options.get("keys", 100)
        self.pause_s = options.get("pause_s", 0.0)
        self.must_read = options.get("must_read", False)  # A read must succeed on some node.
        self.has_session = options.get("has_session", True)  # It shows its stamps.
        self.visit = None       # A node that it is to go to next, on that node's side of its wire.
        self.done = threading.Event()
        self.conn = self.number = None
        self.written = 0
        self.shown = {}         # The highest stamp, and that of its latest write, as on the wire.
        self.own = {}           # {key: stamp}: what it must not miss without being told.

    def run(self):
        try:
            while not self.done.is_set():
                self.step()
                self.done.wait(self.pause_s)
        except Exception as error:  # It must not end unheard.
            self.history.fault("%s: %s: %s" % (self.name, type(error).__name__, error))
        finally:
            self.leave()

    def stop(self):
        self.done.set()
        self.join()

    # --- connections

    def leave(self):
        if self.conn is not None:
            self.conn.close()
        self.conn = self.number = None

    def enter(self, number, past=False):
        self.leave()
        self.number = number
        self.conn = self.cluster.connect(number, past, timeout_s=self.CALL_MS / 1000 + 2)

    def attempt(self, call, **arguments):
        """The answer, or None when this node gives none: then the next call goes elsewhere."""
        try:
            visit, self.visit = self.visit, None
            if visit is not None:
                self.enter(visit, past=True)
            elif self.conn is None:
                self.enter(self.random.choice(self.cluster.numbers))
            return self.conn.call(call, timeout_ms=self.CALL_MS, **arguments)
        except CallError as error:
            if error.code == NOT_FOUND:
                raise
            self.history.count("refused")
            self.last_error = "node-%s: %s" % (self.number, error)
        except (OSError, Closed, AssertionError, ssl.SSLError) as error:
            self.last_error = "node-%s: %s %s" % (self.number, type(error).__name__, error)
        self.leave()
        self.done.wait(0.02)
        return None

    # --- calls

    def step(self):
        chance = self.random.random()
        if chance < 0.02:
            self.leave()  # Sometimes elsewhere without need.
        key = b"%s/%s/%d" % (self.history.prefix, self.random.choice((b"keep", b"keep", b"drop")),
                             self.random.randrange(self.keys))
        if chance < 0.45:
            self.put(key)
        elif chance < 0.55:
            if b"/drop/" in key:
                self.write(key, Attempt(None, 0), "Delete")
        elif chance < 0.9:
            self.read(key)
        else:
            self.derive()

    def put(self, key):
        self.written += 1
        if self.random.random() < 0.1:  # Never written again: nothing later can hide its loss.
            key = b"%s/once/%s-%d" % (self.history.prefix, self.name.encode(), self.written)
        value = b"%s %d " % (self.name.encode(), self.written) + self.random.randbytes(
            self.random.choice((0, 10, 100, 5000)))
        ttl_ms = 0
        if b"/drop/" in key and self.random.random() < 0.3:
            ttl_ms = self.random.randrange(500, 5000)
        self.write(key, Attempt(value, ttl_ms), "Put", value=value, ttl_ms=ttl_ms)

    def write(self, key, attempt, call, **arguments):
        self.history.begin(key, attempt)
        answer = self.attempt(call, key=key, durability=QUORUM, **arguments, **self.shown)
        if answer is None:
            self.history.count("unacked")
            return
        attempt.stamp = stamp_of(answer.stamp)
        if any(attempt.stamp <= stamp_of(shown) for shown in self.shown.values()):
            self.history.fault("a write on node-%d is stamped before what its caller showed"
                               % self.number)
        self.history.count("acked")
        if self.has_session:
            self.shown = {"seen": answer.stamp, "wrote": answer.stamp}
            if answer.may_miss:
                self.own.clear()
            self.own[key] = attempt.stamp

    def read(self, key):
        answer = None
        for _ in range(20 if self.must_read else 1):
            try:
                answer = self.attempt("Get", key=key, **self.shown)
            except CallError as error:  # Not found.
                if key in self.own and b"/drop/" not in key and not error.details.may_miss:
                    self.history.fault("%s cannot read %r, its own write, on node-%d"
                                       % (self.name, key, self.number))
                return
            if answer is not None:
                break
        if answer is None:
            if self.must_read and not self.done.is_set():
                self.history.fault("no node answered a read; the last said: " + self.last_error)
            return
        self.history.count("reads")
        stamp = stamp_of(answer.stamp)
        if key in self.own and not answer.may_miss and stamp < self.own[key]:
            self.history.fault("%s reads an older %r than it wrote, on node-%d"
                               % (self.name, key, self.number))
        if self.has_session and ("seen" not in self.shown
                                 or stamp > stamp_of(self.shown["seen"])):
            self.shown["seen"] = answer.stamp

    def derive(self):
        path = b"path/%d" % self.random.randrange(20)
        answer = self.attempt("Derive", path=path)
        if answer is not None:
            self.history.count("derives")
            self.history.saw_key(path, answer.key, self.number)


class Load:
    """Callers at work, for a with block."""

    def __init__(self, cluster, count=2, seed=1, **options):
        self.history = History()
        self.callers = [Caller(cluster, self.history, "%s-%d" % (seed, n), **options)
                        for n in range(count)]

    def __enter__(self):
        for caller in self.callers:
            caller.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for caller in self.callers:
            caller.done.set()
        for caller in self.callers:
            caller.join()

    def await_acked(self, count):
        """So many more acknowledged writes."""
        goal = self.history.counts["acked"] + count

        def reached():
            self.check_faults()
            return self.history.counts["acked"] >= goal

        try:
            eventually("", reached)
        except AssertionError as error:
            if self.history.faults:
                raise
            raise AssertionError("too few writes were acknowledged: %s; %s" % (
                self.history.counts, [getattr(c, "last_error", "") for c in self.callers])) from error

    def check_faults(self):
        assert not self.history.faults, self.history.faults[:5]


def values(conn, keys):
    """(key, stamp, value) of each; None and None of one that is not there."""
    for at in range(0, len(keys), 128):
        part = keys[at:at + 128]
        for key, item in zip(part, conn.call("BatchGet", keys=part).items):
            assert item.status.code in (harness.OK, NOT_FOUND), item.status.message
            there = item.status.code == harness.OK
            yield key, stamp_of(item.stamp) if there else None, item.value if there else None


def losses(cluster, history):
    """At rest, with all nodes up: sentences about acknowledged writes that are gone, about values that
    nobody wrote, and about keys that differ."""
    found = []
    held = cluster.await_same()
    for number in cluster.numbers:
        for key, stamp, value in cluster.ask(number, lambda conn: list(
                values(conn, sorted(history.attempts)))):
            sentence = history.lost(number, key, stamp, value)
            if sentence is not None:
                found.append(sentence)
        keys = cluster.ask(number, lambda conn: {
            path: conn.call("Derive", path=path).key for path in sorted(history.derived)})
        found += ["node-%d derives another key for %r" % (number, path)
                  for path, key in keys.items() if key != history.derived[path]]
    strange = sorted(k for k in held if k.startswith(history.prefix + b"/")
                     and k not in history.attempts)
    return found + ["%r was never written" % key for key in strange]


def check(cluster, load):
    """The end of a test inside the promise's envelope."""
    load.stop()
    cluster.await_ready()
    load.check_faults()
    found = losses(cluster, load.history)
    assert not found, "%d, such as %s" % (len(found), found[:5])
