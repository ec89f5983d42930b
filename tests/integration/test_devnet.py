# SPDX-License-Identifier: Apache-2.0
"""tools/devnet: the chain with the contracts, the registrations, and what an operator does to them,
without and with a node. Checked over JSON-RPC and with the commands that it prints."""
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import urllib.request

import pytest

from harness import BUILD, DEADLINE_S, ROOT, eventually, keccak256

OWNER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
APPS = {"kms": 49, "sample": 1001}


def devnet(directory, *words, **environment):
    """Exit status, standard output, standard error."""
    done = subprocess.run([str(ROOT / "tools/devnet"), "--dir", str(directory), *words], cwd=ROOT,
                          env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=2 * DEADLINE_S, check=False)
    return done.returncode, done.stdout, done.stderr


def is_running(pid):
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_shown(net, pattern):
    """The outputs of the commands that `show` prints and that match, pasted into a shell."""
    commands = re.findall(r"^    (%s.*)$" % pattern, net.do("show"), re.M)
    assert commands
    return [subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True,
                           timeout=DEADLINE_S, check=True).stdout.strip() for command in commands]


class Net:
    """A devnet that runs."""

    def __init__(self, directory, *options, **environment):
        self.dir = directory
        status, self.up_output, err = devnet(directory, "up", "--build", str(BUILD), *options,
                                             **environment)
        if status != 0:
            devnet(directory, "down")
        assert status == 0, err
        self.state = json.loads((directory / "devnet.json").read_text())
        self.node = self.state["nodes"][0]
        self.pids = [p["pid"] for p in self.state["processes"]]

    def do(self, *words):
        status, out, err = devnet(self.dir, *words)
        assert status == 0, err
        return out

    def refused(self, *words):
        """The one sentence of a command that must fail."""
        status, _, err = devnet(self.dir, *words)
        assert status == 1
        assert err.startswith("devnet: ") and err.count("\n") == 1, err
        return err[len("devnet: "):].strip()

    def rpc(self, method, *params):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.state["rpc_url"], body,
                                         {"Content-Type": "application/json"})
        with opener.open(request, timeout=DEADLINE_S) as answer:
            return json.load(answer)["result"]

    def call(self, contract, signature, *words):
        """A view's answer, as a list of numbers; the arguments are numbers too."""
        data = keccak256(signature.encode())[:4].hex() + "".join("%064x" % word for word in words)
        answer = self.rpc("eth_call", {"to": self.state[contract], "data": "0x" + data}, "latest")
        return [int(answer[at:at + 64], 16) for at in range(2, len(answer), 64)]

    def instance(self, wallet):
        """The struct's own words."""
        return self.call("nova_app_registry", "getInstanceByWallet(address)", int(wallet, 16))[1:]

    def instance_status(self):
        return ("ACTIVE", "STOPPED", "FAILED")[self.instance(self.node["wallet"])[8]]

    def version_status(self, app, version):
        words = self.call("nova_app_registry", "getVersion(uint256,uint256)", APPS[app], version)
        return ("ENROLLED", "DEPRECATED", "REVOKED")[words[1:][7]]

    def is_operator(self):
        return self.call("kms_registry", "isOperator(address)", int(self.node["wallet"], 16)) == [1]


def end(net):
    net.do("down")
    assert not [pid for pid in net.pids if is_running(pid)]
    assert not (net.dir / "devnet.json").exists()


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """Its node is registered, and not started."""
    net = Net(tmp_path_factory.mktemp("devnet"), "--no-start")
    yield net
    end(net)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Its node serves, looks at the chain every second, and has a cable."""
    net = Net(tmp_path_factory.mktemp("devnet"), "--ready-seconds", str(int(DEADLINE_S)), "--wires",
              "--set", "KMS_NODE_TICK_SECONDS=1", REGISTRY_REFRESH_SECONDS="1")
    yield net
    end(net)


def test_the_chain_is_the_guides_and_advances(net):
    assert int(net.rpc("eth_chainId"), 16) == 84532
    head = int(net.rpc("eth_blockNumber"), 16)
    eventually("the next block", lambda: int(net.rpc("eth_blockNumber"), 16) > head)


def test_the_node_is_a_member(net):
    words = net.instance(net.node["wallet"])
    assert words[1] == 49 and words[2] == 1
    assert words[6] == int(net.node["wallet"], 16)
    assert words[7] == 1 and words[8] == 0  # Verified, ACTIVE.
    assert net.is_operator()
    assert net.call("kms_registry", "kmsAppId()") == [49]
    assert net.call("kms_registry", "masterSecretHash()") == [0]
    assert int(net.rpc("eth_getBalance", net.node["wallet"], "latest"), 16) == 10**18


def test_the_registered_key_is_odyns(net):
    url = net.node["odyn_url"] + "/v1/encryption/public_key"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    key = bytes.fromhex(json.load(opener.open(url))["public_key_der"].removeprefix("0x"))
    words = net.instance(net.node["wallet"])
    at = words[5] // 32
    registered = b"".join(word.to_bytes(32, "big") for word in words[at + 1:])[:words[at]]
    assert registered == key


def test_the_sample_app_has_a_key_file(net):
    sample = net.state["sample_app"]
    assert stat.S_IMODE(os.stat(sample["key_file"]).st_mode) == 0o600
    words = net.instance(sample["wallet"])
    assert words[1] == 1001 and words[7] == 1 and words[8] == 0


def test_the_printed_commands_work_when_pasted(net):
    shown = net.do("show")
    assert shown == net.up_output[net.up_output.index("\nDevnet in"):]
    wallet = net.node["wallet"][2:].rjust(64, "0")
    answers = run_shown(net, r"\S+/cast call ")
    assert answers == ["0x%064x" % 49,               # kmsAppId()
                       "0x" + OWNER[2:].rjust(64, "0"),  # OWNER()
                       "0x%064x" % 1,                # isOperator(address)
                       "0x%064x%064x%s" % (32, 1, wallet),  # getOperators()
                       "0x" + 64 * "0"]              # masterSecretHash()


def test_how_to_start_the_node_is_printed(net):
    line = re.search(r"^    env (.*) \S+/nova-kms --rpc (\S+) --http (\S+)$", net.up_output, re.M)
    settings = dict(word.split("=", 1) for word in line.group(1).split())
    assert settings == {
        "NODE_URL": "https://" + line.group(2), "ODYN_URL": net.node["odyn_url"],
        "HELIOS_RPC_URL": net.state["rpc_url"], "CHAIN_ID": "84532", "KMS_APP_ID": "49",
        "NOVA_APP_REGISTRY_ADDRESS": net.state["nova_app_registry"],
        "KMS_REGISTRY_ADDRESS": net.state["kms_registry"]}
    assert "http://%s/health" % line.group(3) in net.up_output


def test_instances_stop_and_come_back(net):
    for command, status in (("stop-instance", "STOPPED"), ("fail-instance", "FAILED")):
        net.do(command, "node-1")
        assert net.instance_status() == status
        assert not net.is_operator()
        assert "InstanceNotActive" in net.refused(command, "node-1")
        net.do("register-instance", "node-1", "1")
        assert net.instance_status() == "ACTIVE"
        assert net.is_operator()
    assert "WalletInUse" in net.refused("register-instance", "node-1", "1")


def test_versions_are_deprecated_and_revoked(net):
    net.do("enroll-version", "kms")
    net.do("deprecate-version", "kms", "2")
    assert net.version_status("kms", 2) == "DEPRECATED"
    net.do("revoke-version", "kms", "2")
    assert net.version_status("kms", 2) == "REVOKED"
    assert net.version_status("kms", 1) == "ENROLLED"
    assert net.refused("deprecate-version", "kms", "2").endswith("VersionIsRevoked(49, 2)")
    assert net.refused("revoke-version", "sample", "7").endswith("UnknownVersion(1001, 7)")


def test_apps_change_their_status(net):
    for number, status in ((1, "inactive"), (2, "revoked"), (0, "active")):
        net.do("set-app-status", "sample", status)
        assert net.call("nova_app_registry", "getApp(uint256)", 1001)[1:][7] == number


def test_the_hash_is_reset_by_the_owner(net):
    topic = "0x" + keccak256(b"MasterSecretHashReset(bytes32)").hex()
    asked = {"address": net.state["kms_registry"], "topics": [topic], "fromBlock": "0x0"}
    before = len(net.rpc("eth_getLogs", asked))
    net.do("reset-hash")
    assert len(net.rpc("eth_getLogs", asked)) == before + 1


def test_status_reads_the_chain(net):
    net.do("set-app-status", "sample", "inactive")
    status = net.do("status")
    net.do("set-app-status", "sample", "active")
    assert re.search(r"master secret hash +not set", status)
    assert re.search(r"app sample \(1001\) +INACTIVE; versions: 1 ENROLLED", status)
    assert re.search(r"instance node-1 +ACTIVE; version 1; verified", status)
    assert re.search(r"odyn-1 +running", status)


def test_wrong_use_is_one_sentence(net, tmp_path):
    assert "runs in %s already" % net.dir in net.refused("up", "--no-start", "--build", str(BUILD))
    assert "must be one of node-1, sample" in net.refused("stop-instance", "node-2")
    for words in (["status"], ["down"]):
        status, _, err = devnet(tmp_path / "none", *words)
        assert status == 1 and err.startswith("devnet: no devnet runs in "), err
    status, _, err = devnet(tmp_path / "unbuilt", "up", "--build", str(tmp_path))
    assert status == 1 and "nova-kms is not built in" in err, err


@pytest.mark.parametrize("number, line", [(signal.SIGINT, "==> runs until Ctrl-C"),
                                          (signal.SIGTERM, "==> deploying the contracts")])
def test_in_the_foreground_a_signal_stops_everything(tmp_path, number, line):
    process = subprocess.Popen([str(ROOT / "tools/devnet"), "--dir", str(tmp_path), "run",
                                "--no-start", "--build", str(BUILD)],
                               stdout=subprocess.PIPE, text=True)
    assert any(shown.strip() == line for shown in process.stdout)
    state = json.loads((tmp_path / "devnet.json").read_text())
    pids = [p["pid"] for p in state["processes"]]
    assert len(pids) == 2 and all(map(is_running, pids))
    process.send_signal(number)
    process.stdout.read()
    assert process.wait(DEADLINE_S) == 0
    process.stdout.close()
    assert not any(map(is_running, pids))
    assert not (tmp_path / "devnet.json").exists()


def test_a_start_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "odyn-1.keys").write_text("not keys")
    status, out, err = devnet(tmp_path, "up", "--no-start", "--build", str(BUILD))
    assert status == 1
    assert err.startswith("devnet: odyn-1 stopped: "), (out, err)
    assert not (tmp_path / "devnet.json").exists()
    log = (tmp_path / "anvil.log").read_text()
    port = int(re.search(r"Listening on 127\.0\.0\.1:(\d+)", log).group(1))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), DEADLINE_S)


# --- with a node ----------------------------------------------------------------------------------

def chain_hash(net):
    return net.call("kms_registry", "masterSecretHash()")[0]


def health(net):
    return json.loads(run_shown(net, r"curl \S+/health")[0])


def sample_derives(net):
    """The exit status of the printed command."""
    command = re.search(r"^    (.* derive disk)$", net.do("show"), re.M).group(1)
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True,
                          timeout=DEADLINE_S, check=False).returncode


def test_up_waits_until_the_node_is_ready(served):
    assert "==> node-1 is ready" in served.up_output
    assert health(served) == {"status": "healthy"}
    status = json.loads(run_shown(served, r"curl \S+/status")[0])
    assert status["node"]["tee_wallet"] == served.node["wallet"]
    assert status["node"]["is_operator"] is True
    assert int(status["node"]["master_secret_hash"], 16) == chain_hash(served) != 0
    assert re.search(r"node-1 +ready", served.do("status"))


def test_the_printed_novakmsctl_derives_the_sample_apps_key(served):
    whoami, key = run_shown(served, r"\S*novakmsctl ")
    assert served.state["sample_app"]["wallet"] in whoami
    assert re.fullmatch("[0-9a-f]{64}", key)


def test_a_stopped_app_is_cut_off(served):
    served.do("stop-instance", "sample")
    eventually("the refusal", lambda: sample_derives(served) == 4, every_s=0.2)
    served.do("register-instance", "sample", "1")
    eventually("the key again", lambda: sample_derives(served) == 0, every_s=0.2)


def test_a_cable_is_cut_and_healed(served):
    assert re.search(r"node-1 +ready +open +0 ", served.do("status", "--once"))
    served.do("cut", "1")
    assert sample_derives(served) == 5
    assert re.search(r"node-1 +ready +cut ", served.do("status"))
    served.do("hang", "node-1")
    host, port = served.node["rpc"].split(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as silent:
        served.do("heal", "1")
        silent.close()
    assert sample_derives(served) == 0
    assert "must be one of node-1" in served.refused("cut", "2")


def test_after_a_reset_the_node_sets_its_hash_again(served):
    before = chain_hash(served)
    served.do("reset-hash")
    eventually("the same hash", lambda: chain_hash(served) == before)
    eventually("the node", lambda: health(served)["status"] == "healthy", every_s=0.2)


def test_a_revoked_version_takes_the_node_out_of_service(served):
    served.do("revoke-version", "kms", "1")
    eventually("the reason", lambda: health(served)["status"] == "unavailable", every_s=0.2)
    assert re.search(r"node-1 +not ready: .+", served.do("status"))
    served.do("enroll-version", "kms")
    served.do("stop-instance", "node-1")
    served.do("register-instance", "node-1", "2")
    eventually("the node", lambda: health(served)["status"] == "healthy", every_s=0.2)


def test_a_node_is_killed(served):
    served.do("kill", "1")
    assert re.search(r"node-1 +stopped +open ", served.do("status"))
    assert served.refused("kill", "1") == "node-1 does not run"
    assert served.refused("stop", "node-1") == "node-1 does not run"
    log = (served.dir / "node-1.log").read_text()
    served.refused("start", "1", "--ready-seconds", "0")  # Its secret died with it.
    assert served.refused("start", "1") == "node-1 runs already"
    assert (served.dir / "node-1.log").read_text().startswith(log)
