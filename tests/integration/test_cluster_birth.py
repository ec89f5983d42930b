# SPDX-License-Identifier: Apache-2.0
"""Five nodes that are born with their cluster: they race for the master secret, and none waits for what
nobody can have."""
import pytest

from chain import Cluster
from harness import keccak256, kms_pb


@pytest.fixture(scope="module")
def cluster(chain):
    cluster = Cluster(chain, 5, START_WAIT_SECONDS="600")
    yield cluster
    cluster.close()


def test_all_serve_without_a_durability_reset(chain, cluster):
    pages = [node.page("/status")[1] for node in cluster.nodes]
    assert [page["cluster"]["durability_resets"] for page in pages] == [0] * 5
    assert {page["node"]["master_secret_hash"] for page in pages} == {chain.secret_hash()}
    topic = "0x" + keccak256(b"MasterSecretHashSet(bytes32,address)").hex()
    events = chain.rpc("eth_getLogs", {"address": chain.kms, "fromBlock": "0x0", "topics": [topic]})
    assert len(events) == 1


def test_they_are_a_quorum(cluster):
    for node in cluster.nodes:
        with node.connect_known(cluster.caller) as kms:
            kms.call("Put", key=b"k", value=b"v", durability=kms_pb.DURABILITY_QUORUM)
