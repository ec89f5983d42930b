# SPDX-License-Identifier: Apache-2.0
"""A devnet: what runs in one directory, and what can be done to it. See tools/devnet."""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONTRACTS = ROOT / "contracts"
PROGRAMS = CONTRACTS / "node_modules/.bin"
CHAIN_ID = 84532
KMS_APP_ID = 49
SAMPLE_APP_ID = 1001
# The first account of anvil's well-known mnemonic. The key is public: of no use on a real chain.
ADMIN = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
ADMIN_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
FUNDS_WEI = 10**18
GAS = 3_000_000
START_S, RECEIPT_S = 30, 30
DRAIN_S, STOP_S = 40, 5  # How long a node, and anything else, may take to stop.
ORDER_S = 10             # How long a wire may take to obey.
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

APP_STATUS = ("ACTIVE", "INACTIVE", "REVOKED")
VERSION_STATUS = ("ENROLLED", "DEPRECATED", "REVOKED")
INSTANCE_STATUS = ("ACTIVE", "STOPPED", "FAILED")


class Failure(Exception):
    """Ends the command with one sentence."""


def say(text):
    print("==> " + text, flush=True)


def until(what, condition, limit_s):
    """Waits until condition() gives something true, and gives that."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure("%s within %d s" % (what, limit_s))
        time.sleep(0.05)


def run(*command, **environment):
    """The standard output of a command that must succeed."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    env.update(ETH_POLL_INTERVAL="1", **environment)  # How often cast looks for a receipt.
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True) as child:
        try:
            out, err = child.communicate()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)  # With what make has started.
            raise
    if child.returncode != 0:
        said = [line for line in (err or out).splitlines() if line.strip()]
        raise Failure("%s failed: %s" % (shlex.join(command[:4]), said[0] if said else "no output"))
    return out.strip()


def http(url, body=None, timeout_s=5):
    """Status and text of a call on loopback, whatever http_proxy says."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        raise Failure("%s does not answer: %s" % (url, getattr(error, "reason", error))) from None


def free_ports(count):
    """Free ones, below those that the kernel gives to outgoing connections: a node that is down for
    a while must find its port free when it comes back. All are held until the last is found."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        end = max(int(file.read().split()[0]), 20000)
    found = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", random.randrange(10000, end)))
                found.append(probe.getsockname()[1])
    return found


# --- processes ------------------------------------------------------------------------------------

def started_at(pid):
    """When a process started, in the kernel's ticks: with the id, it names one process for good."""
    try:
        stat = pathlib.Path("/proc/%d/stat" % pid).read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # One whose first thread is dead lives on, with its ports, until the last one is.
    return None if fields[0] == "Z" and int(fields[17]) <= 1 else int(fields[19])


def is_running(process):
    return process["started"] is not None and started_at(process["pid"]) == process["started"]


def stop(processes, term_s):
    """SIGTERM, and SIGKILL to what is still there after so long."""
    for number, limit_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, STOP_S)):
        for process in filter(is_running, processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process["pid"], number)
        end = time.monotonic() + limit_s
        while any(map(is_running, processes)) and time.monotonic() < end:
            reap()
            time.sleep(0.02)


def reap():
    """Collects children that ended, so that they do not stay as zombies of a foreground devnet."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass


def last_line(path):
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it logged nothing")


# --- the chain ------------------------------------------------------------------------------------

def cast(*words):
    return run(str(PROGRAMS / "cast"), *words)


class Chain:
    """Transactions are the administrator's, whose account anvil holds unlocked."""

    def __init__(self, url):
        self.url = url

    def rpc(self, method, *params):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = json.loads(http(self.url, body, timeout_s=10)[1])
        if "error" in answer:
            data = answer["error"].get("data")
            reason = revert_reason(data) if isinstance(data, str) else answer["error"]["message"]
            raise Failure("the chain refused it: " + reason)
        return answer["result"]

    def call(self, to, signature, *args):
        """The 32-byte words of a view's answer."""
        data = cast("calldata", signature, *map(str, args))
        answer = self.rpc("eth_call", {"from": ADMIN, "to": to, "data": data}, "latest")
        return [answer[at:at + 64] for at in range(2, len(answer), 64)]

    def send(self, to, signature=None, *args, value_wei=0):
        """Queues a transaction and gives its hash; several go into one block, in order."""
        data = cast("calldata", signature, *map(str, args)) if signature else "0x"
        return self.rpc("eth_sendTransaction", {"from": ADMIN, "to": to, "data": data,
                                                "gas": hex(GAS), "value": hex(value_wei)})

    def confirm(self, hashes):
        """Waits for the blocks of these transactions; each must have succeeded."""
        for number in hashes:
            receipt = until("transaction %s was not mined" % number,
                            lambda n=number: self.rpc("eth_getTransactionReceipt", n), RECEIPT_S)
            if receipt["status"] != "0x1":
                raise Failure("transaction %s was reverted" % number)

    def transact(self, to, signature, *args):
        """One transaction, tried without effect first: that gives the reason of a refusal."""
        self.call(to, signature, *args)
        self.confirm([self.send(to, signature, *args)])


def revert_reason(data):
    """The contracts' error with its arguments, as `InstanceNotActive(0x...)`."""
    for name in ("NovaAppRegistry", "KMSRegistry"):
        artifact = CONTRACTS / "out" / (name + ".sol") / (name + ".json")
        for entry in json.loads(artifact.read_text())["abi"]:
            if entry["type"] == "error":
                types = ",".join(part["type"] for part in entry["inputs"])
                signature = "%s(%s)" % (entry["name"], types)
                if cast("sig", signature) == data[:10]:
                    values = cast("decode-error", "--sig", signature, data).split("\n")
                    return "%s(%s)" % (entry["name"], ", ".join(v for v in values if v))
    return "it was reverted with " + data


# --- the network ----------------------------------------------------------------------------------

class Devnet:
    """What runs in one directory. `state` is devnet.json, written after each step."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory).absolute()
        self.file = self.dir / "devnet.json"
        self.state = json.loads(self.file.read_text()) if self.file.exists() else None

    def save(self):
        new = self.dir / "devnet.json.new"
        new.write_text(json.dumps(self.state, indent=2) + "\n")
        new.replace(self.file)

    def require(self):
        if not self.state or "sample_app" not in self.state:
            raise Failure("no devnet runs in %s; start one with tools/devnet up" % self.dir)

    @property
    def chain(self):
        return Chain(self.state["rpc_url"])

    def start_process(self, name, command, **environment):
        """One that was started before goes on in its log."""
        log = self.dir / (name + ".log")
        before = self.find_process(name)
        inherited = {k: v for k, v in os.environ.items() if k.lower() not in PROXY_VARIABLES}
        with open(log, "ab" if before else "wb") as out:
            # A session of its own: Ctrl-C reaches devnet alone, which then stops all in order.
            child = subprocess.Popen(command, cwd=self.dir, env={**inherited, **environment},
                                     stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                     start_new_session=True)
        process = {"name": name, "pid": child.pid, "started": started_at(child.pid),
                   "log": str(log)}
        if before:
            before.update(process)
        else:
            self.state["processes"].append(process)
        self.save()
        return process

    def find_process(self, name):
        return next((p for p in self.state["processes"] if p["name"] == name), None)

    @contextlib.contextmanager
    def changing(self):
        """One command at a time changes what runs; it sees what the others did."""
        with open(self.dir / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.reload()
            self.require()
            yield
            self.save()

    def reload(self):
        self.state = json.loads(self.file.read_text()) if self.file.exists() else None

    def await_line(self, process, start):
        """The rest of the log's first line that begins so."""
        log = pathlib.Path(process["log"])

        def look():
            reap()
            lines = log.read_text(errors="replace").split("\n")
            found = [line[len(start):] for line in lines[:-1] if line.startswith(start)]
            if not found and not is_running(process):
                raise Failure("%s stopped: %s" % (process["name"], last_line(log)))
            return found

        return until("%s did not start" % process["name"], look, START_S)[0]

    def await_words(self, process, start):
        """The key=value pairs of that line."""
        return dict(word.split("=", 1) for word in self.await_line(process, start).split())

    # --- starting

    def up(self, options):
        programs = {name: program(options.build, name)
                    for name in ("nova-kms", "odyn-sim", "novakmsctl")}
        if self.state and any(map(is_running, self.state["processes"])):
            raise Failure("a devnet runs in %s already; tools/devnet down stops it" % self.dir)
        say("building the contracts")
        run("make", "-C", str(CONTRACTS), "build")
        self.state = {"chain_id": CHAIN_ID, "kms_app_id": KMS_APP_ID, "programs": programs,
                      "admin": {"address": ADMIN, "private_key": ADMIN_KEY},
                      "nodes": [], "processes": []}
        self.state["has_wires"] = options.nodes > 1 if options.wires is None else options.wires
        self.state["settings"] = dict(options.set or ())
        self.start_chain()
        count = options.nodes
        if options.start and not options.together:
            count = min(count, 1)  # The others join when it serves.
        say("starting Odyn for %d node%s" % (count, "" if count == 1 else "s"))
        for number in range(1, count + 1):
            self.make_node(number)
        self.deploy()
        self.register_all()
        if options.start:
            say("starting the nodes")
            for node in self.state["nodes"]:
                self.start_node(node)
        self.save()

    def start_chain(self):
        say("starting the chain")
        # HOME: anvil keeps old states below it.
        process = self.start_process("anvil", [str(PROGRAMS / "anvil"), "--port", "0", "--chain-id",
                                               str(CHAIN_ID)], HOME=str(self.dir))
        self.state["rpc_url"] = "http://" + self.await_line(process, "Listening on ")

    def deploy(self):
        say("deploying the contracts")
        make = ("make", "--no-print-directory", "-C", str(CONTRACTS),
                "RPC_URL=" + self.state["rpc_url"])
        deployed = deployed_addresses(run(*make, "deploy-dev", PRIVATE_KEY=ADMIN_KEY))
        self.state["nova_app_registry"], self.state["verifier"] = deployed
        deployed = deployed_addresses(run(*make, "deploy", PRIVATE_KEY=ADMIN_KEY,
                                          NOVA_APP_REGISTRY_PROXY=deployed[0]))
        self.state["kms_registry"] = deployed[0]
        run(*make, "set-app-id", PRIVATE_KEY=ADMIN_KEY, CONTRACT_ADDRESS=deployed[0],
            KMS_APP_ID=str(KMS_APP_ID))
        # Until here a block for each transaction: forge looks for receipts only every 7 seconds.
        self.chain.rpc("evm_setIntervalMining", 1)

    def make_node(self, number):
        """Everything of a node but itself: its Odyn, its ports, its wire."""
        name = "odyn-%d" % number
        process = self.start_process(name, [self.state["programs"]["odyn-sim"], "--port", "0",
                                            "--key-file", str(self.dir / (name + ".keys"))])
        odyn = self.await_words(process, "odyn-sim ready ")
        answer = json.loads(http(odyn["url"] + "/v1/encryption/public_key")[1])
        listen, plain = ("127.0.0.1:%d" % port for port in free_ports(2))
        node = {"name": "node-%d" % number, "app_id": KMS_APP_ID, "wallet": odyn["wallet"],
                "tee_pubkey": answer["public_key_der"], "odyn_url": odyn["url"],
                "listen": listen, "rpc": listen, "http": plain}
        if self.state["has_wires"]:
            process = self.start_process("wire-%d" % number, [
                sys.executable, str(ROOT / "tools/devnet-wire"), "--target", listen])
            node["wire"] = self.await_words(process, "wire ready ")
            node["rpc"] = node["wire"]["forward"]
        node["url"] = "https://" + node["rpc"]
        self.state["nodes"].append(node)
        self.save()
        return node

    def start_node(self, node):
        environment, command = self.start_command(node)
        return self.start_process(node["name"], command, **environment)

    def start_command(self, node):
        """What the node reads from its environment, and its command line."""
        environment = {
            "NODE_URL": node["url"], "ODYN_URL": node["odyn_url"],
            "HELIOS_RPC_URL": self.state["rpc_url"], "CHAIN_ID": str(CHAIN_ID),
            "NOVA_APP_REGISTRY_ADDRESS": self.state["nova_app_registry"],
            "KMS_REGISTRY_ADDRESS": self.state["kms_registry"], "KMS_APP_ID": str(KMS_APP_ID)}
        if "wire" in node:
            environment["https_proxy"] = "http://" + node["wire"]["proxy"]
        environment.update(self.state["settings"])
        environment.update(node.get("settings", {}))
        program_path = self.state["programs"]["nova-kms"]
        return environment, [program_path, "--rpc", node["listen"], "--http", node["http"]]

    def register_all(self):
        say("registering the apps and their instances")
        kms_code = hashlib.sha256(pathlib.Path(self.state["programs"]["nova-kms"]).read_bytes())
        sample_code = hashlib.sha256(b"a sample application")
        key_file = self.dir / "sample.key"
        ctl = self.state["programs"]["novakmsctl"]
        verb = "show" if key_file.exists() else "new"
        wallet = run(ctl, "identity", verb, str(key_file)).split()[0]
        self.state["measurements"] = {str(KMS_APP_ID): "0x" + kms_code.hexdigest(),
                                      str(SAMPLE_APP_ID): "0x" + sample_code.hexdigest()}
        # It runs in no enclave, so that it has no key of one.
        self.state["sample_app"] = {"name": "sample", "app_id": SAMPLE_APP_ID, "wallet": wallet,
                                    "key_file": str(key_file), "tee_pubkey": "0x",
                                    "url": "https://sample.example"}
        sent = []
        for app_id, contract in ((KMS_APP_ID, self.state["kms_registry"]),
                                 (SAMPLE_APP_ID, "0x" + 40 * "0")):
            sent += self.create_app(app_id, contract)
        for node in self.state["nodes"]:
            sent += self.admit(node)
        sent.append(self.chain.send(*self.registration(self.state["sample_app"], 1)))
        self.chain.confirm(sent)

    def admit(self, node):
        """Funds a node and registers it; gives the transactions."""
        return [self.chain.send(node["wallet"], value_wei=FUNDS_WEI),
                self.chain.send(*self.registration(node, 1))]

    def create_app(self, app_id, contract):
        platform, zero = self.state["nova_app_registry"], "0x" + 40 * "0"
        send = self.chain.send
        return [
            send(platform, "createAppWithId(uint256,address,string,address)", app_id, contract,
                 "devnet", zero),
            send(platform, "setVerifier(uint256,address)", app_id, self.state["verifier"]),
            send(platform, "enrollVersion(uint256,string,bytes32,string)", app_id, "1.0.0",
                 self.state["measurements"][str(app_id)], "devnet"),
        ]

    def registration(self, instance, version_id):
        """The call that registers an instance, with the proof that the verifier wants."""
        key_hash = cast("keccak", instance["tee_pubkey"])
        measurement = self.state["measurements"][str(instance["app_id"])]
        proof = cast("keccak", cast("abi-encode", "f(bytes32,address,bytes32)", measurement,
                                    instance["wallet"], key_hash))
        return (self.state["nova_app_registry"],
                "registerInstance(uint256,uint256,address,string,bytes,bytes)", instance["app_id"],
                version_id, instance["wallet"], instance["url"], instance["tee_pubkey"], proof)

    def await_ready(self, limit_s):
        """Each node's /health must become 200; the first that does not gives the failure."""
        end = time.monotonic() + limit_s
        for node in self.state["nodes"]:
            self.await_node(node, max(end - time.monotonic(), 0))

    def await_node(self, node, limit_s):
        end = time.monotonic() + limit_s
        while (reason := self.unready(node)) is not None:
            if not is_running(self.find_process(node["name"])) or time.monotonic() > end:
                raise Failure("%s is not ready: %s" % (node["name"], reason))
            time.sleep(0.1)
        say(node["name"] + " is ready")

    def unready(self, node):
        """None when the node serves, or why it does not."""
        reap()
        process = self.find_process(node["name"])
        if process is None:
            return "it was not started"
        if not is_running(process):
            return "it stopped: " + last_line(pathlib.Path(process["log"]))
        try:
            status, body = http("http://%s/health" % node["http"])
            return None if status == 200 else json.loads(body).get("reason", body)
        except (Failure, ValueError) as error:
            return str(error)

    # --- stopping

    def down(self):
        """Nodes first, so that they can still finish what they ask of chain and Odyn."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # A second Ctrl-C would leave some behind.
        processes = self.state["processes"]
        stop([p for p in processes if p["name"].startswith("node-")], DRAIN_S)
        stop(processes, STOP_S)
        self.file.unlink(missing_ok=True)

    # --- showing

    def commands(self):
        """What to paste: the deployment guide's steps, then the sample app. (title, commands)"""
        state, tools = self.state, shown(PROGRAMS / "cast")
        rpc, kms = ("--rpc-url", state["rpc_url"]), state["kms_registry"]
        nodes = state["nodes"]

        def call(*words):
            return [tools, "call", kms, *words, *rpc]

        steps = [("step 1.4, the deployment", [call("kmsAppId()"), call("OWNER()")])]
        if nodes:
            pages = [["curl", "http://%s/%s" % (n["http"], p)] for n in nodes
                     for p in ("health", "status")]
            steps.append(("steps 5.1 and 5.2, the nodes", pages))
        steps.append(("step 5.3, the registration",
                      [call("isOperator(address)", n["wallet"]) for n in nodes] +
                      [call("getOperators()"), call("masterSecretHash()")]))
        if nodes:
            ctl = [shown(state["programs"]["novakmsctl"]), *rpc, "--registry",
                   state["nova_app_registry"], "--kms-app-id", str(KMS_APP_ID), "--identity",
                   shown(state["sample_app"]["key_file"])]
            steps.append(("the sample app", [ctl + ["whoami"], ctl + ["derive", "disk"]]))
        return steps

    def show(self):
        state = self.state
        print("\nDevnet in %s, chain id %d\n" % (shown(self.dir), state["chain_id"]))
        where = {"anvil": state["rpc_url"]}
        for node in state["nodes"]:
            where[node["name"]] = "%s, pages at http://%s" % (node["url"], node["http"])
            where["odyn" + node["name"][4:]] = node["odyn_url"]
            where["wire" + node["name"][4:]] = "%s to %s" % (node["rpc"], node["listen"])
        rows = [(p["name"], where[p["name"]], str(p["pid"]) if is_running(p) else "stopped",
                 shown(p["log"])) for p in state["processes"]]
        table(("process", "where", "pid", "log"), rows)
        rows = [("NovaAppRegistry (stand-in)", state["nova_app_registry"]),
                ("KMSRegistry", state["kms_registry"]), ("the administrator", ADMIN)]
        rows += [("%s, wallet" % n["name"], n["wallet"]) for n in state["nodes"]]
        rows.append(("sample app, wallet", state["sample_app"]["wallet"]))
        table(("on the chain", "address"), rows)
        for title, commands in self.commands():
            print("# " + title)
            for command in commands:
                print("    " + " ".join(quoted(word) for word in command))
        for node in self.unstarted():
            print("# " + node["name"])
            environment, command = self.start_command(node)
            print("    env %s %s" % (" ".join("%s=%s" % kv for kv in environment.items()),
                                     shlex.join([shown(command[0]), *command[1:]])))
        print(flush=True)

    def unstarted(self):
        names = [p["name"] for p in self.state["processes"]]
        return [n for n in self.state["nodes"] if n["name"] not in names]

    def status(self):
        """What the chain and the nodes say now."""
        state, call = self.state, self.chain.call
        platform, kms = state["nova_app_registry"], state["kms_registry"]
        head = self.chain.rpc("eth_getBlockByNumber", "latest", False)
        age = time.time() - int(head["timestamp"], 16)
        secret_hash = int(call(kms, "masterSecretHash()")[0], 16)
        rows = [("head", "block %d, %d s old" % (int(head["number"], 16), age)),
                ("master secret hash", "0x%064x" % secret_hash if secret_hash else "not set"),
                ("operators", str(int(call(kms, "operatorCount()")[0], 16)))]
        for name, app_id in (("kms", KMS_APP_ID), ("sample", SAMPLE_APP_ID)):
            # Word 0 of an answer says where the struct starts.
            app = call(platform, "getApp(uint256)", app_id)[1:]
            versions = []
            for version_id in range(1, int(app[5], 16) + 1):
                version = call(platform, "getVersion(uint256,uint256)", app_id, version_id)[1:]
                versions.append("%d %s" % (version_id, VERSION_STATUS[int(version[7], 16)]))
            rows.append(("app %s (%d)" % (name, app_id), "%s; versions: %s"
                         % (APP_STATUS[int(app[7], 16)], ", ".join(versions))))
        for instance in [*state["nodes"], state["sample_app"]]:
            words = call(platform, "getInstanceByWallet(address)", instance["wallet"])[1:]
            rows.append(("instance " + instance["name"], "%s; version %d; %s" % (
                INSTANCE_STATUS[int(words[8], 16)], int(words[2], 16),
                "verified" if int(words[7], 16) else "not verified")))
        for process in state["processes"]:
            rows.append((process["name"], self.process_status(process)))
        table(("what", "now"), rows)
        self.node_table()

    def process_status(self, process):
        for node in self.state["nodes"]:
            if node["name"] == process["name"]:
                reason = self.unready(node)
                return "ready" if reason is None else "not ready: " + reason
        return "running" if is_running(process) else "stopped"

    def node_table(self):
        """What each node says of itself; "-" for what it cannot."""
        head = ("node", "state", "cable", "keys", "peers", "lag", "resets", "why not")
        table(head, [self.node_row(node) for node in self.state["nodes"]])

    def node_row(self, node):
        reason = self.unready(node)
        page = self.page(node) or {}
        state = "ready" if reason is None else "not ready" if page else "stopped"
        cable = self.order(node, "state").split()[0] if "wire" in node else "-"
        keys = page.get("data_store", {}).get("total_keys", "-")
        cluster = page.get("cluster", {})
        members = [m for m in cluster.get("members", []) if not m.get("is_self")]
        reached = sum(1 for m in members if m.get("reachable"))
        lags = [m["lag_ms"] for m in members if m.get("reachable") and "lag_ms" in m]
        return (node["name"], state, cable, str(keys),
                "%d of %d" % (reached, len(members)) if members else "-",
                "%d ms" % max(lags) if lags else "-", str(cluster.get("durability_resets", "-")),
                (reason or "")[:70])

    def page(self, node):
        """What /status of a node says, None when it does not answer."""
        if not is_running(self.find_process(node["name"]) or {"started": None}):
            return None
        with contextlib.suppress(Failure, ValueError):
            return json.loads(http("http://%s/status" % node["http"])[1])
        return None

    def watch(self):
        """The table of nodes, again and again, until it is interrupted."""
        while True:
            self.reload()
            self.require()
            head = int(self.chain.rpc("eth_blockNumber"), 16)
            print("\x1b[H\x1b[2J%s  block %d\n" % (time.strftime("%H:%M:%S"), head))
            self.node_table()
            sys.stdout.flush()
            time.sleep(1)

    # --- what happens to nodes

    def node(self, name):
        """By number or name."""
        name = name if name.startswith("node-") else "node-" + name
        for node in self.state["nodes"]:
            if node["name"] == name:
                return node
        raise Failure("'%s' is no node here: it must be one of %s"
                      % (name, ", ".join(n["name"] for n in self.state["nodes"])))

    def running(self, node):
        process = self.find_process(node["name"])
        if process is None or not is_running(process):
            raise Failure("%s does not run" % node["name"])
        return process

    def kill(self, node):
        process = self.running(node)
        os.kill(process["pid"], signal.SIGKILL)
        until("%s did not end" % node["name"], lambda: reap() or not is_running(process), STOP_S)

    def stop(self, node):
        stop([self.running(node)], DRAIN_S)

    def start(self, node):
        process = self.find_process(node["name"])
        if process is not None and is_running(process):
            raise Failure("%s runs already" % node["name"])
        self.start_node(node)

    def order(self, node, word):
        """Tells a node's wire something, and gives its answer."""
        if "wire" not in node:
            raise Failure("%s has no cable to cut: start with --wires" % node["name"])
        host, port = node["wire"]["control"].split(":")
        try:
            with socket.create_connection((host, int(port)), ORDER_S) as control:
                control.sendall(word.encode() + b"\n")
                return control.makefile().readline().strip()
        except OSError as error:
            raise Failure("the wire of %s does not answer: %s" % (node["name"], error)) from None

    def add_node(self):
        numbers = [int(n["name"][5:]) for n in self.state["nodes"]]
        node = self.make_node(max(numbers, default=0) + 1)
        self.chain.confirm(self.admit(node))
        self.start_node(node)
        return node

    def remove_node(self, node):
        """In order: it hands over what only it has, then leaves the registry."""
        number = node["name"][5:]
        processes = [p for p in map(self.find_process, ("node-" + number, "odyn-" + number,
                                                        "wire-" + number)) if p]
        stop(processes[:1], DRAIN_S)
        self.platform("stopInstance(address)", node["wallet"])
        stop(processes[1:], STOP_S)
        self.state["nodes"].remove(node)
        self.state["processes"] = [p for p in self.state["processes"] if p not in processes]
        self.save()

    # --- what an operator does

    def instance(self, name):
        known = {i["name"]: i for i in [*self.state["nodes"], self.state["sample_app"]]}
        if name not in known:
            raise Failure("'%s' is no instance here: it must be one of %s"
                          % (name, ", ".join(known)))
        return known[name]

    def platform(self, signature, *args):
        self.chain.transact(self.state["nova_app_registry"], signature, *args)

    def enroll_version(self, app_id):
        measurement = self.state["measurements"][str(app_id)]
        self.platform("enrollVersion(uint256,string,bytes32,string)", app_id, "next", measurement,
                      "devnet")

    def set_app_status(self, app_id, status):
        self.platform("setAppStatus(uint256,uint8)", app_id, APP_STATUS.index(status.upper()))

    def reset_hash(self):
        run("make", "-C", str(CONTRACTS), "RPC_URL=" + self.state["rpc_url"], "reset-secret-hash",
            PRIVATE_KEY=ADMIN_KEY, CONTRACT_ADDRESS=self.state["kms_registry"])


def deployed_addresses(output):
    """The addresses in the output of `forge create`."""
    start = "Deployed to: "
    return [line[len(start):].strip() for line in output.split("\n") if line.startswith(start)]


def program(build, name):
    for path in sorted(pathlib.Path(build).rglob(name)):
        if path.is_file() and os.access(path, os.X_OK):
            return str(path.resolve())
    raise Failure("%s is not built in %s: cmake -S . -B build -G Ninja && ninja -C build"
                  % (name, build))


def shown(path):
    """Relative to where the user is, when that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def quoted(word):
    return '"%s"' % word if word.endswith(")") else shlex.quote(word)


def table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()


