# SPDX-License-Identifier: Apache-2.0
"""Three real nodes on a chain: restarted one after the other, with clocks that are wrong, a caller that
goes from one to the other, and a node that comes with a new wallet."""
import itertools

import pytest

from cluster import QUORUM, Cluster, Load, check, stamp_of
from harness import NOT_FOUND, RESOURCE_EXHAUSTED, CallError, eventually, fails

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


def test_a_caller_that_changes_nodes_misses_no_write_of_its_own(cluster):
    """Each of its writes is on another node than the one before, and beside others' newer ones."""
    conns = [cluster.connect_known(number) for number in cluster.numbers]
    shown, own = {}, {}
    for turn in range(40):
        writer, other, reader = conns[turn % 3], conns[(turn + 1) % 3], conns[(turn + 2) % 3]
        key, value = b"keep/roam/%d" % (turn % 7), b"%d" % turn
        answer = writer.call("Put", key=key, value=value, **shown)
        assert all(stamp_of(answer.stamp) > stamp_of(stamp) for stamp in shown.values())
        if answer.may_miss:  # On a machine that is too busy.
            own.clear()
        own[key] = value
        newer = other.call("Put", key=b"keep/other", value=b"x").stamp
        shown = {"seen": max(newer, answer.stamp, key=stamp_of), "wrote": answer.stamp}
        answer = reader.call("BatchGet", keys=list(own), **shown)
        assert [item.value for item in answer.items] == list(own.values()) or answer.may_miss
    for conn in conns:
        conn.close()


def misses(conn, **shown):
    """Whether a key is not there, and whether the answer says that it may miss it."""
    try:
        return False, conn.call("Get", key=b"keep/mine", **shown).may_miss
    except CallError as error:
        assert error.code == NOT_FOUND
        return True, error.details.may_miss


def test_a_caller_whose_node_is_cut_off_is_told(cluster):
    """What it wrote there is not on the others; but there is a newer write of somebody else's, which it
    has seen. That stamp alone would not tell them."""
    cluster.order(1, "cut")
    with cluster.connect(1, past_the_wire=True) as first:
        mine = first.call("Put", key=b"keep/mine", value=b"1").stamp
    with cluster.connect_known(2) as second, cluster.connect_known(3) as third:
        for _ in itertools.count():
            newer = third.call("Put", key=b"keep/other", value=b"x").stamp
            if stamp_of(newer) > stamp_of(mine):
                break
        eventually("the newer write", lambda: not misses(second, seen=newer)[1])
        assert misses(second, seen=newer) == (True, False)
        assert misses(second, seen=newer, wrote=mine) == (True, True)
        answer = second.call("Put", key=b"keep/mine", value=b"2", seen=newer, wrote=mine)
        assert answer.may_miss
        assert stamp_of(answer.stamp) > stamp_of(newer) > stamp_of(mine)
        cluster.order(1, "heal")
        eventually("the first write", lambda: misses(second, seen=newer, wrote=mine) == (
            False, False))
    for number in cluster.numbers:
        eventually("the last write", lambda n=number: cluster.value(n, b"keep/mine") == b"2")
    cluster.await_same()


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
