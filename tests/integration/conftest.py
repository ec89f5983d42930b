# SPDX-License-Identifier: Apache-2.0
import pytest

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
