# SPDX-License-Identifier: Apache-2.0
import pytest

import chain as chains
import harness


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """One node for the tests of a file. It must also end well."""
    node = harness.Node(tmp_path_factory.mktemp("node"))
    yield node
    node.stop()


@pytest.fixture
def make_node(tmp_path_factory):
    """Starts nodes with their own settings: make_node(MAX_VALUE_SIZE=1024)."""
    nodes = []

    def make(**env):
        node = harness.Node(tmp_path_factory.mktemp("node"),
                            env={k: str(v) for k, v in env.items()})
        nodes.append(node)
        return node

    yield make
    failures = []
    for node in nodes:
        try:
            node.stop()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def app(node):
    """A wallet with an app of its own and a connection, for the tests of a file."""
    wallet, conn = node.new_app()
    yield wallet
    conn.close()


@pytest.fixture
def kms(node, app):
    """A fresh connection of the app."""
    with node.connect(app) as conn:
        yield conn


# --- nodes on chain ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def chain():
    """One chain for the tests of a file."""
    chain = chains.Chain()
    yield chain
    chain.close()


@pytest.fixture
def make_live_node(chain):
    """Starts nodes on the file's chain, registered and funded, unless told otherwise. At the end the
    KMS's hash is as it was found: zero."""
    nodes = []

    def make(odyn=None, register=True, fund=True, **env):
        odyn = odyn or chains.Odyn()
        if fund:
            chain.fund(odyn.wallet)
        if register:
            chain.register(odyn.wallet, chains.KMS_APP, chains.LiveNode.URL, odyn.tee_pubkey())
        nodes.append(chains.LiveNode(chain, odyn, env))
        return nodes[-1]

    yield make
    last = None
    for node in nodes:
        node.close()
        if chain.rpc("eth_call", {"to": chain.kms, "data": chains.calldata(
                "isOperator(address)", node.odyn.wallet)}, "latest")[-1] == "1":
            last = chain.begin(chain.apps, "stopInstance(address)", node.odyn.wallet)
    if chain.secret_hash() != chains.ZERO_HASH:
        last = chain.begin(chain.kms, "resetMasterSecretHash()")
    if last:
        chain.wait(last)
