# SPDX-License-Identifier: Apache-2.0
"""Three real nodes on a chain: restarted one after the other, with clocks that are wrong, and one that
comes with a new wallet."""
import pytest

from cluster import QUORUM, Cluster, Load, check
from harness import RESOURCE_EXHAUSTED, eventually, fails

SKEW_MAX_S = 5


@pytest.fixture(scope="module")
def cluster():
    """Each test leaves all its nodes serving, with clocks that are right."""
    with Cluster(3, skewed=True) as cluster:
        yield cluster


def test_a_rolling_restart_fails_no_read(cluster):
    with Load(cluster, must_read=True, keys=50) as load:
        load.await_acked(5)
        for number in cluster.numbers:
            cluster.stop(number)
            load.await_acked(5)
            cluster.start(number)
            cluster.await_ready(number)
        check(cluster, load)
    assert load.history.counts["reads"] > 0
    assert cluster.resets() == 0


def test_clocks_within_the_limit_change_nothing(cluster):
    for number, ahead_s in ((1, 2), (2, -2), (3, 0)):
        cluster.set_clock(number, ahead_s)
    with Load(cluster, keys=50) as load:
        load.await_acked(30)
        check(cluster, load)
    for number in cluster.numbers:
        cluster.set_clock(number, 0)


def test_a_node_whose_clock_is_wrong_is_left_out(cluster):
    """It would date its writes into the future. It stays out of service and says why, and the others
    need it for nothing."""
    cluster.stop(3)
    cluster.set_clock(3, SKEW_MAX_S + 7)
    cluster.start(3)
    with Load(cluster, keys=50) as load:
        load.await_acked(10)
        eventually("the reason", lambda: "its clock differs" in (
            cluster.net.unready(cluster.node(3)) or ""))
        load.await_acked(10)
        cluster.stop(3)
        cluster.set_clock(3, 0)
        cluster.start(3)
        check(cluster, load)


def test_a_quota_binds_the_node_that_is_asked(cluster):
    """A node with a smaller one takes what the others have accepted, and no write of a caller."""
    node = cluster.node(3)
    former = dict(node["settings"])
    cluster.stop(3)
    node["settings"] = {**former, "MAX_APP_STORAGE": "65536", "MAX_VALUE_SIZE": "16384"}
    cluster.start(3)
    cluster.await_ready(3)
    keys = [b"keep/quota/%d" % i for i in range(10)]
    with cluster.connect_known(1) as conn:
        for key in keys:
            conn.call("Put", key=key, value=10000 * b"q", durability=QUORUM)
    for key in keys:
        eventually("%r on node-3" % key, lambda k=key: cluster.value(3, k) is not None)
    with cluster.connect_known(3) as conn, fails(RESOURCE_EXHAUSTED, "MAX_APP_STORAGE"):
        conn.call("Put", key=b"keep/quota/more", value=b"q")
    cluster.stop(3)
    node["settings"] = former
    cluster.start(3)
    cluster.await_ready(3)
    cluster.await_same()


def test_a_node_comes_and_one_goes(cluster):
    """add-node and remove-node of tools/devnet, under load."""
    with Load(cluster, keys=50) as load:
        load.await_acked(5)
        node = cluster.net.add_node()
        cluster.await_ready(int(node["name"][5:]))
        load.await_acked(5)
        cluster.net.remove_node(cluster.node(1))
        load.await_acked(5)
        check(cluster, load)
