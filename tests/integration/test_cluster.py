# SPDX-License-Identifier: Apache-2.0
"""Three nodes on one chain: one master secret, one data set. The cluster is shared by the tests, each
of which leaves it whole."""
import re

import pytest

from chain import Cluster
from harness import (DEADLINE_EXCEEDED, NOT_FOUND, PERMISSION_DENIED, CallError, Wallet, eventually,
                     fails, keccak256, kms_pb)

VALUE_BYTES_MAX = (4 << 20) - (64 << 10)  # The most that MAX_VALUE_SIZE may be.
QUORUM = {"durability": kms_pb.DURABILITY_QUORUM}
ONE_PEER = {"durability": kms_pb.DURABILITY_ONE_PEER}


@pytest.fixture(scope="module")
def cluster(chain):
    cluster = Cluster(chain, 3, MAX_VALUE_SIZE=str(VALUE_BYTES_MAX))
    yield cluster
    cluster.close()


@pytest.fixture
def callers(cluster):
    conns = [node.connect_known(cluster.caller) for node in cluster.nodes]
    yield conns
    for conn in conns:
        conn.close()


def read(kms, key):
    try:
        return kms.call("Get", key=key).value
    except CallError as error:
        assert error.code == NOT_FOUND, error
        return None


def await_value(kms, key, value):
    eventually("%r is %r" % (key, value), lambda: read(kms, key) == value, every_s=0.002)


def test_one_secret_wins(chain, cluster, callers):
    """All were started at once."""
    hashes = {node.page("/status")[1]["node"]["master_secret_hash"] for node in cluster.nodes}
    assert hashes == {chain.secret_hash()}
    topic = "0x" + keccak256(b"MasterSecretHashSet(bytes32,address)").hex()
    events = chain.rpc("eth_getLogs", {"address": chain.kms, "fromBlock": "0x0", "topics": [topic]})
    assert len(events) == 1
    assert len({kms.call("Derive", path=b"p", length=32).key for kms in callers}) == 1


def test_writes_reach_every_node(callers):
    for i, kms in enumerate(callers):
        stamp = kms.call("Put", key=b"from %d" % i, value=b"v").stamp
        for other in callers:
            got = other.call("Get", key=b"from %d" % i, seen=stamp)
            assert got.value == b"v" and not got.may_miss
    stamp = callers[0].call("Delete", key=b"from 1").stamp
    for kms in callers:
        with fails(NOT_FOUND):
            kms.call("Get", key=b"from 1", seen=stamp)
    big = bytes(range(256)) * (VALUE_BYTES_MAX // 256)
    callers[2].call("Put", key=b"big", value=big, **QUORUM)
    for kms in callers:
        await_value(kms, b"big", big)


def test_durability(callers):
    callers[0].call("Put", key=b"q", value=b"1", **QUORUM)
    assert [read(kms, b"q") for kms in callers].count(b"1") >= 2
    put = callers[1].call("Put", key=b"q", value=b"2", **ONE_PEER).stamp
    stamp = callers[2].call("Delete", key=b"q", seen=put, **QUORUM).stamp
    for kms in callers:
        with fails(NOT_FOUND):
            kms.call("Get", key=b"q", seen=stamp)
    items = callers[0].call("BatchPut", entries=[{"key": b"q1", "value": b"a"}, {"key": b""}],
                            **QUORUM).items
    assert [item.status.code for item in items] == [0, 3]


def test_status_and_metrics(cluster):
    for node in cluster.nodes:
        others = {other.odyn.wallet for other in cluster.nodes} - {node.odyn.wallet}
        page = node.page("/status")[1]["cluster"]
        assert page["total_instances"] == 3 and page["in_service"]
        assert {member["wallet"] for member in page["members"]} == others
        node.eventually("both are reached", lambda node=node: all(
            member["reachable"] and member["in_service"]
            for member in node.page("/status")[1]["cluster"]["members"]))
        metrics = node.metrics()
        assert "nova_kms_replication_members_reachable 2\n" in metrics
        assert re.search(r'replication_pulls_total{result="ok"} [1-9]', metrics)


def test_only_members_replicate(cluster, callers):
    for method in ("Pull", "GetDigest", "FetchMasterSecret"):
        with fails(PERMISSION_DENIED):
            callers[0].call_raw("PeerService/" + method)
    stranger = Wallet()
    assert cluster.nodes[0].refusal(stranger).status == PERMISSION_DENIED


def test_a_node_dies_and_comes_back(cluster, callers):
    node = cluster.nodes[2]
    callers[2].call("Put", key=b"before", value=b"1", **QUORUM)
    node.kill()
    callers[0].call("Put", key=b"meanwhile", value=b"2", **QUORUM)
    resets = [other.page("/status")[1]["cluster"]["durability_resets"]
              for other in cluster.nodes[:2]]
    node.start()
    node.await_ready()
    with node.connect_known(cluster.caller) as kms:
        assert read(kms, b"before") == b"1" and read(kms, b"meanwhile") == b"2"
        kms.call("Put", key=b"after", value=b"3", **QUORUM)
    page = node.page("/status")[1]["cluster"]
    assert page["durability_resets"] == 0
    assert resets == [other.page("/status")[1]["cluster"]["durability_resets"]
                      for other in cluster.nodes[:2]]


def test_a_majority_is_down(cluster, callers):
    for node in cluster.nodes[1:]:
        node.kill()
    callers[0].call("Put", key=b"alone", value=b"1")
    with fails(DEADLINE_EXCEEDED, "stored here and on 0 peers"):
        callers[0].call("Put", 5000, key=b"alone", value=b"2", **QUORUM)
    assert read(callers[0], b"alone") == b"2"
    for node in cluster.nodes[1:]:
        node.start()
    for node in cluster.nodes[1:]:
        node.await_ready()
        with node.connect_known(cluster.caller) as kms:
            await_value(kms, b"alone", b"2")
            kms.call("Put", key=b"together", value=b"3", **QUORUM)


def test_a_node_that_stops_hands_over(cluster, callers):
    """What only it has when the signal comes, and nobody waits for."""
    node = cluster.nodes[0]
    for i in range(200):
        callers[0].call("Put", key=b"last %d" % i, value=b"v")
    node.stop()
    assert "node.handed_over complete=1" in node.output()
    for kms in callers[1:]:
        assert all(read(kms, b"last %d" % i) == b"v" for i in range(200))
    node.start()
    node.await_ready()


def test_no_secret_in_a_log(cluster):
    """A secret has as many hex digits as a hash; no line has either. Runs last: logs are whole."""
    for node in cluster.nodes:
        for line in node.output().splitlines():
            assert not re.search(r"[0-9a-fA-F]{64}", line), line
