# SPDX-License-Identifier: Apache-2.0
"""tools/devnet demo: a cluster under load loses a node, gets it back, has another cut off, heals,
and is then asked whether all nodes hold the same data and every write that was acknowledged."""
import argparse
import base64
import contextlib
import hashlib
import json
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import time

from devnet_lib import CHAIN_ID, ROOT, Devnet, Failure, say, until

WRITES = 20       # Acknowledged ones that each step waits for.
STEP_S = 60       # How long a step may take.
CALL_S = 10       # A call's own limit.


def add_options(parser):
    parser.add_argument("--nodes", type=int, choices=range(3, 10), default=3, metavar="N",
                        help="3 to 9 (3)")
    parser.add_argument("--build", default=str(ROOT / "build"), metavar="DIR",
                        help="where the programs were built (build)")
    parser.add_argument("--keep", action="store_true", help="keep the directory with the logs")


class Refused(Exception):
    """A call that did not succeed: novakmsctl's exit code and sentence."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code


class Client:
    """The sample app, through novakmsctl, which tries the servers in turn."""

    def __init__(self, net):
        state = net.state
        self.base = [state["programs"]["novakmsctl"], "--json", "--chain-id", str(CHAIN_ID),
                     "--server-wallet", ",".join(n["wallet"] for n in state["nodes"]),
                     "--identity", state["sample_app"]["key_file"], "--timeout", "%ds" % CALL_S]
        self.servers = [n["rpc"] for n in state["nodes"]]
        self.turn = 0

    def call(self, *words, server=None):
        self.turn += 1
        at = self.turn % len(self.servers)
        servers = [server] if server else self.servers[at:] + self.servers[:at]
        done = subprocess.run([*self.base, "--server", ",".join(servers), *words],
                              capture_output=True, text=True, check=False, timeout=6 * CALL_S)
        if done.returncode != 0:
            with contextlib.suppress(ValueError, KeyError):
                raise Refused(done.returncode, json.loads(done.stdout)["error"]["message"])
            raise Refused(done.returncode, (done.stderr or done.stdout).strip())
        return json.loads(done.stdout)


def value_of(key):
    return b"value of " + key.encode()


def note(text):
    print("    " + text, flush=True)


def stamp_of(answer):
    return int(answer["stamp"]["hlc"]), answer["stamp"]["writer"]


class Load:
    """Writes with QUORUM and reads what was acknowledged, each in a thread, until stopped."""

    def __init__(self, net):
        self.acked = {}      # key: stamp
        self.unacked = 0
        self.reads = 0
        self.stale = 0       # Reads that had to be made again: the node had not heard of it yet.
        self.failures = []
        self.last_refusal = ""
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.guard, args=(work, Client(net)))
                        for work in (self.write, self.read)]
        for thread in self.threads:
            thread.start()

    def guard(self, work, client):
        try:
            while not self.done.is_set():
                work(client)
        except Exception as error:  # A thread must not end unheard.
            self.failures.append("%s: %s" % (type(error).__name__, error))

    def write(self, client):
        key = "demo/%05d" % (len(self.acked) + self.unacked)
        try:
            answer = client.call("put", key, value_of(key).decode(), "--durability", "quorum")
            self.acked[key] = stamp_of(answer)
        except Refused as error:
            self.unacked += 1
            self.last_refusal = str(error)

    def read(self, client):
        key, stamp = random.choice(list(self.acked.items()) or [(None, None)])
        if key is None:
            time.sleep(0.05)
            return
        end = time.monotonic() + STEP_S
        while True:
            try:
                answer = client.call("get", key, "--format", "base64")
                if stamp_of(answer) >= stamp:
                    if base64.b64decode(answer["value"]) != value_of(key):
                        self.failures.append("%s reads %r" % (key, answer["value"]))
                    self.reads += 1
                    return
            except Refused as error:
                if error.code != 3:  # Not "not found".
                    self.failures.append("the read of %s: %s" % (key, error))
                    return
            self.stale += 1
            if time.monotonic() > end:
                self.failures.append("%s cannot be read" % key)
                return

    def await_writes(self, count):
        """So many more acknowledged writes."""
        goal = len(self.acked) + count
        try:
            until("", lambda: len(self.acked) >= goal or self.failures, STEP_S)
        except Failure:
            raise Failure("the client got fewer than %d writes acknowledged in %d s: %s"
                          % (count, STEP_S, self.last_refusal or "no answer")) from None
        if self.failures:
            raise Failure(self.failures[0])
        note("the client: %d writes acknowledged by a quorum, %d not, %d reads, none failed"
            % (len(self.acked), self.unacked, self.reads))

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join()


def contents(client, node):
    """{key: stamp} of what a node holds."""
    entries = client.call("list", "--prefix", "demo/", server=node["rpc"])["entries"]
    return {e["key"]: stamp_of(e) for e in entries}


def digest(held):
    text = "".join("%s %d %s\n" % (key, *stamp) for key, stamp in sorted(held.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def same_key_everywhere(net):
    client = Client(net)
    keys = {node["name"]: client.call("derive", "demo", server=node["rpc"])["key"]
            for node in net.state["nodes"]}
    if len(set(keys.values())) != 1:
        raise Failure("the nodes derive different keys")
    shown = hashlib.sha256(next(iter(keys.values())).encode()).hexdigest()[:16]
    note("all nodes derive the same key (its SHA-256 begins with %s)" % shown)


def lose_a_node(net, load, node):
    say("killing %s (SIGKILL)" % node["name"])
    net.kill(node)
    load.await_writes(WRITES)
    say("starting %s again: its memory is empty, and it asks the others for all of it" % node["name"])
    began = time.monotonic()
    net.start(node)
    net.await_node(node, STEP_S)
    note("it serves after %.1f s" % (time.monotonic() - began))
    load.await_writes(WRITES)


def cut_a_node_off(net, load, node):
    """The node goes on serving who is on its side; gives what was written there."""
    say("cutting %s off: from the other nodes and from the client" % node["name"])
    net.order(node, "cut")
    client = Client(net)
    alone = client.call("put", "demo/alone", "written while cut off", server=node["listen"])
    note("on its side it takes a LOCAL write")
    try:
        client.call("put", "demo/alone-quorum", "x", "--durability", "quorum", "--timeout", "2s",
                    server=node["listen"])
        raise Failure("%s acknowledged a QUORUM write while it was alone" % node["name"])
    except Refused as refused:
        note("and refuses a QUORUM write: %s" % refused)
    load.await_writes(WRITES)
    say("healing the cable of %s" % node["name"])
    net.order(node, "heal")
    load.await_writes(WRITES)
    return {"demo/alone": stamp_of(alone)}


def check(net, written):
    """Waits until all nodes hold the same, and compares that with what was acknowledged."""
    client, nodes = Client(net), net.state["nodes"]
    held = {}

    def same():
        for node in nodes:
            held[node["name"]] = contents(client, node)
        return len(set(map(digest, held.values()))) == 1

    try:
        until("", same, STEP_S)
    finally:
        print("  node    keys   digest of keys and stamps")
        for name, entries in held.items():
            print("  %-6s  %5d  %s" % (name, len(entries), digest(entries)), flush=True)
    lost = [(name, key) for name, entries in held.items() for key, stamp in written.items()
            if entries.get(key, (0, "")) < stamp]
    if lost:
        raise Failure("%d acknowledged writes are missing, the first is %s on %s"
                      % (len(lost), lost[0][1], lost[0][0]))
    say("all %d nodes hold the same, and every one of %d acknowledged writes"
        % (len(nodes), len(written)))


def play(net, options):
    say("a chain, and a first node, which makes the master secret")
    net.up(argparse.Namespace(nodes=1, build=options.build, start=True, wires=True, together=False,
                              set=[("KMS_NODE_TICK_SECONDS", "1")]))
    net.await_ready(STEP_S)
    for _ in range(options.nodes - 1):
        say("one more node registers, and fetches the master secret and all data")
        net.await_node(net.add_node(), STEP_S)
    same_key_everywhere(net)
    say("a client writes with QUORUM and reads, going to the next node when one fails")
    load = Load(net)
    try:
        load.await_writes(WRITES)
        lose_a_node(net, load, net.state["nodes"][1])
        written = cut_a_node_off(net, load, net.state["nodes"][2])
    finally:
        load.stop()
    say("the client stops; the nodes are compared")
    if load.failures:
        raise Failure(load.failures[0])
    check(net, {**load.acked, **written})
    same_key_everywhere(net)


def run(options):
    """Exit code 0 by returning, 1 by Failure."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="nova-demo-"))
    net = Devnet(directory)
    ok = False
    try:
        play(net, options)
        ok = True
    finally:
        if net.state:
            net.down()
        if ok and not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say("the logs are in %s" % directory)
    say("the demo passed")
