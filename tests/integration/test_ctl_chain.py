# SPDX-License-Identifier: Apache-2.0
"""novakmsctl with the registry on a real chain: which nodes it finds, which servers it refuses, and
what it says when the chain does not help."""
import contextlib
import json
import re
import socket
import subprocess

import pytest

import chain as chains
import harness
from chain import KMS_APP, SAMPLE_APP, LiveNode, Odyn
from harness import ImpostorServer, Wallet, eventually, program

DONE, OTHER, USAGE, NOT_FOUND, PERMISSION, UNAVAILABLE = range(6)
OTHER_APPS = iter(range(2000, 3000))


def run(*arguments, **env):
    return subprocess.run([program("novakmsctl"), *map(str, arguments)], capture_output=True,
                          text=True, timeout=harness.DEADLINE_S, check=False,
                          stdin=subprocess.DEVNULL, env=harness.plain_environment(env))


def unless_busy(done):
    """None when a step did not get its seconds, or the chain its blocks."""
    busy = (r"timed out|takes too long|no complete answer within|head has stalled| s old by |"
            r"dated in the future")
    return None if done.returncode == UNAVAILABLE and re.search(busy, done.stderr) else done


def refused_port():
    """Nobody listens there, and nobody will: it stays bound."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


class Net:
    """A chain, a node that serves at the URL it has there, and the sample app's key."""

    def __init__(self, directory):
        self.chain = chains.Chain()
        self.node = None
        try:
            self.start(directory)
        except BaseException:
            self.close()
            raise

    def start(self, directory):
        odyn = Odyn()
        self.rpc = "127.0.0.1:%d" % chains.free_port()
        self.url = "https://" + self.rpc
        self.chain.fund(odyn.wallet)
        self.chain.register(odyn.wallet, KMS_APP, self.url, odyn.tee_pubkey())
        self.node = LiveNode(self.chain, odyn,
                             {"NODE_URL": self.url, "NODE_RPC_LISTEN": self.rpc})
        self.key = directory / "app.key"
        self.wallet = run("identity", "new", self.key).stdout.strip()
        self.chain.register(self.wallet, SAMPLE_APP)
        self.node.await_ready()
        self.node.eventually("the app is known", lambda: self.ctl("whoami").returncode == DONE)

    def close(self):
        if self.node:
            self.node.close()
        self.chain.close()

    def where(self, **changes):
        options = {"rpc-url": self.chain.url, "registry": self.chain.apps, "kms-app-id": KMS_APP}
        options.update({name.replace("_", "-"): value for name, value in changes.items()})
        return [word for name, value in options.items() for word in ("--" + name, str(value))]

    def ctl(self, *command, **changes):
        """A run that tells what it would also tell on a machine that is not busy."""
        changes = {"identity": self.key, "timeout": "1m", **changes}
        return eventually("not busy", lambda: unless_busy(run(*self.where(**changes), *command)))

    def fails(self, code, *command, **changes):
        """The one sentence."""
        done = self.ctl(*command, **changes)
        assert done.returncode == code, (done.returncode, done.stderr)
        assert done.stdout == ""
        assert re.fullmatch(r"novakmsctl: [^\n]+\n", done.stderr), done.stderr
        return done.stderr

    def add_app(self, *urls):
        """Another app with an instance at each URL; gives its id."""
        app = next(OTHER_APPS)
        self.chain.wait(self.chain.add_app(app))
        for url in urls:
            self.chain.register(Wallet().text, app, url)
        return app


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    net = Net(tmp_path_factory.mktemp("ctl"))
    yield net
    net.close()


def test_a_node_is_found_on_chain(net):
    me = json.loads(net.ctl("whoami", "--json").stdout)
    assert me["wallet"] == net.wallet and me["app_id"] == SAMPLE_APP
    key = net.ctl("derive", "disk")
    assert re.fullmatch(r"[0-9a-f]{64}\n", key.stdout), key.stderr
    assert net.ctl("put", "k", "v").returncode == DONE
    assert net.ctl("get", "k").stdout == "v"
    status = run(*net.where(), "status", "--json")  # Without an identity.
    assert json.loads(status.stdout)["wallet"] == net.node.odyn.wallet
    # The same, named: the chain still says who it may be.
    assert net.ctl("derive", "disk", server=net.rpc).stdout == key.stdout
    environment = {"NOVAKMS_RPC_URL": net.chain.url, "NOVAKMS_REGISTRY": net.chain.apps,
                   "NOVAKMS_KMS_APP_ID": str(KMS_APP), "NOVAKMS_IDENTITY": str(net.key)}
    assert run("derive", "disk", **environment).stdout == key.stdout


def test_an_impostor_at_a_registered_url_gets_nothing(net):
    with ImpostorServer(Wallet().pem()) as server:
        app = net.add_app("https://%s:%d" % server.address)
        error = net.fails(PERMISSION, "derive", "p", kms_app_id=app)
        assert "is no active, verified instance of app %d" % app in error
        error = net.fails(PERMISSION, "derive", "p", server="%s:%d" % server.address)
        assert server.connections >= 2
        assert server.certificates == 0, "the client showed its certificate"
        assert server.received == b"", "the client wrote a frame"


def test_a_registered_server_is_accepted(net):
    """The same with the registered wallet: only its wallet makes the client refuse."""
    wallet = Wallet()
    with ImpostorServer(wallet.pem(), harness.ssl.TLSVersion.TLSv1_2) as server:
        app = net.add_app()
        net.chain.register(wallet.text, app, "https://%s:%d" % server.address)
        assert net.ctl("derive", "p", kms_app_id=app).returncode != DONE
        assert server.certificates >= 1


def test_dead_nodes_are_passed_over(net):
    """Of another app, so that the node does not wait for them; it is known by its wallet there."""
    with contextlib.ExitStack() as held:
        probes = [refused_port() for _ in range(3)]
        for sock, _ in probes:
            held.enter_context(sock)
        app = net.add_app(net.url, *("https://127.0.0.1:%d" % port for _, port in probes))
        known = {"kms_app_id": app, "server_wallet": net.node.odyn.wallet}
        for number in range(4):  # Each begins anywhere.
            assert net.ctl("put", "failover", str(number), **known).returncode == DONE
            assert net.ctl("get", "failover", **known).stdout == str(number)


def test_a_hung_node_is_passed_over(net):
    """It takes connections and says nothing; a second one refuses them."""
    sock, port = refused_port()
    with sock, socket.create_server(("127.0.0.1", 0)) as hung:
        servers = "127.0.0.1:%d,127.0.0.1:%d,%s" % (port, hung.getsockname()[1], net.rpc)
        assert net.ctl("put", "hung", "v", server=servers).returncode == DONE
        assert hung.accept()


def test_urls_that_are_no_nodes(net):
    app = net.add_app("http://127.0.0.1:1", "https://user:secret@127.0.0.1:1",
                      "https://127.0.0.1:1/path")
    error = net.fails(UNAVAILABLE, "derive", "p", kms_app_id=app)
    assert "none of the 3 nodes that the registry lists for app %d" % app in error
    assert "secret" not in error


def test_the_chain_does_not_help(net):
    sock, port = refused_port()
    with sock:
        error = net.fails(UNAVAILABLE, "derive", "p",
                          rpc_url="http://user:secret@127.0.0.1:%d/secret" % port)
        assert "the registry cannot be read: chain RPC 127.0.0.1:%d: " % port in error
        assert "secret" not in error
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = "http://127.0.0.1:%d" % hung.getsockname()[1]
        error = net.fails(UNAVAILABLE, "derive", "p", rpc_url=url, timeout="200ms")
        assert "the registry was not read in the call's time" in error


def test_another_chain_app_or_contract(net):
    assert "the chain id is 84532, must be 1" in net.fails(UNAVAILABLE, "derive", "p", chain_id=1)
    error = net.fails(UNAVAILABLE, "derive", "p", kms_app_id=77)
    assert "the registry cannot be read: chain RPC " in error
    error = net.fails(UNAVAILABLE, "derive", "p", kms_app_id=net.add_app())
    assert "the registry lists no active, verified node" in error
    error = net.fails(UNAVAILABLE, "derive", "p", registry="0x" + "11" * 20)
    assert "there is no contract at its address" in error
    error = net.fails(PERMISSION, "derive", "p", server=net.rpc, kms_app_id=SAMPLE_APP)
    assert "is no active, verified instance of app %d" % SAMPLE_APP in error


def test_a_stopped_node_is_not_used(net):
    net.chain.stop_instance(net.node.odyn.wallet)
    error = net.fails(UNAVAILABLE, "derive", "p")
    assert "the registry lists no active, verified node: app %d has none" % KMS_APP in error
    net.fails(PERMISSION, "derive", "p", server=net.rpc)
    net.node.register(net.url)
    eventually("the node serves again", lambda: net.ctl("derive", "p").returncode == DONE,
               every_s=0.2)
