# SPDX-License-Identifier: Apache-2.0
"""The node of a production build (tools/production sets NOVA_PRODUCTION_NODE): what it refuses, and
that otherwise it becomes ready on a chain with the contracts it was built for, and serves."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import chain as chains
from chain import KMS_APP, LiveNode, Odyn
from harness import CHAIN_ID, DEADLINE_S, keccak256, plain_environment

NODE = os.environ["NOVA_PRODUCTION_NODE"]
ODYN_PORT = int(os.environ["NOVA_PRODUCTION_ODYN_PORT"])
TRUST_ROOTS = {"CHAIN_ID": "84532", "KMS_APP_ID": "49",
               "NOVA_APP_REGISTRY_ADDRESS": "0x" + "1" * 40,
               "KMS_REGISTRY_ADDRESS": "0x" + "2" * 40,
               "ODYN_URL": "http://127.0.0.1:%d" % ODYN_PORT}
CANNOT_LOCK = ("nova-kms: memory cannot be locked: raise RLIMIT_MEMLOCK (ulimit -l unlimited) or "
               "grant CAP_IPC_LOCK\n")
FIXED = ("what a production build trusts is fixed when it is built, and the environment may not "
         "change it: unset it")


def run(*arguments, prefix=(), **env):
    """Exit status, standard output, standard error."""
    done = subprocess.run([*prefix, NODE, *arguments], capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False, stdin=subprocess.DEVNULL,
                          env=plain_environment(env))
    return done.returncode, done.stdout, done.stderr


def without_locking(limit_bytes):
    """Starts a program that may lock no more: root without the capabilities that lift the limit."""
    prefix = ["prlimit", "--memlock=%d:%d" % (limit_bytes, limit_bytes)]
    if os.geteuid() == 0:
        prefix = ["setpriv", "--bounding-set", "-ipc_lock,-sys_resource", *prefix]
    return prefix


def test_it_says_what_it_is():
    assert run("--version") == (0, "nova-kms 0.1.0 (production)\n", "")


@pytest.mark.parametrize("flag", [["--dev"], ["--dir", "/tmp"], ["--dev", "--dir", "/tmp"]])
def test_there_is_no_development_node(flag):
    code, out, err = run(*flag)
    assert (code, out) == (2, "")
    assert err.startswith("nova-kms: %s is not allowed in a production build\n" % flag[0])
    assert "--dev and --dir are refused" in run("--help")[1]


@pytest.mark.parametrize("name", TRUST_ROOTS)
def test_the_environment_sets_no_trust_root(name):
    """Not even to the value that the build has."""
    code, out, err = run(**{name: TRUST_ROOTS[name]})
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[1:] == ["%s: not allowed; %s" % (name, FIXED)]
    assert run("--check-config", **{name: ""})[0] == 0  # Empty is not set.
    shown = run("--help")[1]
    refused = r"^  %s\n      .*\n      Refused: this build fixes it, as \S+\.$" % name
    assert re.search(refused, shown, re.M)


def test_all_refused_variables_are_named_at_once():
    code, _, err = run(**TRUST_ROOTS, NODE_WORKERS="0")
    assert code == 2
    assert {line.partition(":")[0].partition("=")[0] for line in err.splitlines()[1:]} == {
        "NODE_WORKERS", *TRUST_ROOTS}


def test_it_shows_what_it_trusts():
    shown = dict(line.split("=", 1) for line in run("--check-config")[1].splitlines())
    assert shown["CHAIN_ID"] == str(CHAIN_ID) and shown["KMS_APP_ID"] == str(KMS_APP)
    assert shown["ODYN_URL"] == TRUST_ROOTS["ODYN_URL"]


@pytest.mark.parametrize("url", ["http://192.0.2.1:8545", "https://sepolia.base.org",
                                 "http://127.0.0.1:80@192.0.2.1:8545", "http://localhost.example"])
def test_it_believes_no_chain_but_its_own_light_client(url):
    code, _, err = run(HELIOS_RPC_URL=url)
    assert code == 2
    assert err.splitlines()[1].startswith("HELIOS_RPC_URL=%s: not allowed; " % url)


@pytest.mark.parametrize("limit_bytes", [0, 65536, 8 << 20])
def test_without_locked_memory_it_does_not_start(limit_bytes):
    assert run(prefix=without_locking(limit_bytes)) == (1, "", CANNOT_LOCK)


# ---- A node that runs ----------------------------------------------------------------------------

# Stands in for the kernel on a machine that lets nobody lock memory: all else is tested there too.
GRANT = """
#include <stddef.h>
#include <sys/resource.h>
int mlock(const void *at, size_t len) { return at != NULL && len > 0 ? 0 : -1; }
int mlockall(int flags) { return flags != 0 ? 0 : -1; }
int setrlimit(__rlimit_resource_t what, const struct rlimit *limit) {
    return what >= 0 && limit != NULL ? 0 : -1;
}
"""


def may_lock():
    # With port 0 of a host that is not here it ends after it has locked its memory.
    code, _, err = run("--rpc", "192.0.2.1:0", "--http", "192.0.2.1:0")
    assert code == 1
    return err != CANNOT_LOCK


class BuiltInOdyn(Odyn):
    """At the address that the node was built for."""

    def __init__(self):
        super().__init__()
        self.stop()
        self.port = ODYN_PORT
        self.url = TRUST_ROOTS["ODYN_URL"]
        self.start()


class ProductionNode(LiveNode):
    """Configured by what a production node reads, and by nothing else."""

    def program(self):
        return NODE

    def start(self):
        for name in TRUST_ROOTS:
            self.env.pop(name, None)
        super().start()


@pytest.fixture(scope="module")
def chain():
    chain = chains.Chain()
    yield chain
    chain.close()


@pytest.fixture(scope="module")
def grant(tmp_path_factory):
    """The environment that lets the node lock memory: none, where it may."""
    if may_lock():
        return {}
    directory = tmp_path_factory.mktemp("grant")
    (directory / "grant.c").write_text(GRANT)
    library = str(directory / "grant.so")
    source = str(directory / "grant.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": library}


@pytest.fixture(scope="module")
def node(chain, grant):
    odyn = BuiltInOdyn()
    chain.fund(odyn.wallet)
    chain.register(odyn.wallet, KMS_APP, LiveNode.URL, odyn.tee_pubkey())
    node = ProductionNode(chain, odyn, {"MASTER_SECRET_HEX": "42" * 32, **grant})
    yield node
    node.close()


def test_it_was_built_for_this_chain(chain):
    shown = dict(line.split("=", 1) for line in run("--check-config")[1].splitlines())
    assert shown["NOVA_APP_REGISTRY_ADDRESS"] == chain.apps.lower()
    assert shown["KMS_REGISTRY_ADDRESS"] == chain.kms.lower()


def test_it_becomes_ready_and_serves(chain, node):
    node.await_ready()
    assert re.search(r"node\.start .*build=production", node.output())
    status = node.page("/status")[1]["node"]
    assert status["master_secret_hash"] == chain.secret_hash()
    assert status["master_secret_hash"] != "0x" + keccak256(b"\x42" * 32).hex()
    assert status["tee_wallet"] == node.odyn.wallet
    assert (status["chain_id"], int(status["kms_app_id"])) == (CHAIN_ID, KMS_APP)
    with node.connect_app() as kms:
        key = kms.call("Derive", path=b"p", length=32).key
        assert kms.call("Derive", path=b"p", length=32).key == key
        kms.call("Put", key=b"k", value=b"v")
        assert kms.call("Get", key=b"k").value == b"v"


def test_all_its_memory_is_locked(node, grant):
    node.await_ready()
    status = pathlib.Path("/proc/%d/status" % node.process.pid).read_text()
    kib = {name: int(value) for name, value in re.findall(r"^(Vm\w+):\s+(\d+) kB", status, re.M)}
    assert kib["VmSwap"] == 0
    if not grant:
        assert kib["VmLck"] >= 0.98 * kib["VmSize"], kib  # All but the kernel's own pages.
    limits = pathlib.Path("/proc/%d/limits" % node.process.pid).read_text()
    assert grant or re.search(r"^Max core file size +0 +0 ", limits, re.M)
