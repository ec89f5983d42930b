# SPDX-License-Identifier: Apache-2.0
"""Three real nodes with many records. One is killed, and gets all of them again while the others are
written to."""
import re

from cluster import Cluster, Load, check, devnet_lib
from harness import OK, eventually

COUNT = 200000
PORTION = 256  # Records of one BatchPut.
SETTINGS = {"MAX_APP_STORAGE": str(1 << 30), "MAX_STORE_BYTES": str(1 << 31)}


def key_of(i):
    return b"many/%d" % i


def fill(cluster):
    with cluster.connect_known(1) as conn:
        for at in range(0, COUNT, PORTION):
            items = conn.call("BatchPut", entries=[
                {"key": key_of(i), "value": b"v"} for i in range(at, min(at + PORTION, COUNT))]).items
            assert all(item.status.code == OK for item in items)


def total_keys(cluster, number):
    return cluster.page(number)["data_store"]["total_keys"]


def compared(cluster, number, result):
    """How often a node found its digests equal to a member's, or different."""
    metrics = devnet_lib.http("http://%s/metrics" % cluster.node(number)["http"])[1]
    return int(re.search(r'replication_digests_total{result="%s"} (\d+)' % result,
                         metrics).group(1))


def test_a_snapshot_while_writes_go_on():
    with Cluster(3, SETTINGS, wires=False) as cluster:
        fill(cluster)
        for number in cluster.numbers:
            eventually("all records are on node-%d" % number,
                       lambda n=number: total_keys(cluster, n) == COUNT)
        with Load(cluster, must_read=True) as load:
            load.await_acked(20)
            cluster.kill(2)
            load.await_acked(100)
            before = len(cluster.log(cluster.node(2)))
            cluster.start(2)
            load.await_acked(20)
            cluster.await_ready(2)
            snapshot = re.search(r"replication\.snapshot records=(\d+) ",
                                 cluster.log(cluster.node(2))[before:])
            assert int(snapshot.group(1)) >= COUNT
            load.await_acked(20)
            load.stop()
            equal = [compared(cluster, number, "equal") for number in cluster.numbers]
            check(cluster, load)
        held = cluster.contents(2)
        assert all(key_of(i) in held for i in range(COUNT))
        for number, count in zip(cluster.numbers, equal):
            eventually("node-%d compares digests" % number,
                       lambda n=number, c=count: compared(cluster, n, "equal") > c)
            assert compared(cluster, number, "different") == 0
        assert cluster.resets() == 0
