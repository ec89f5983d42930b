# SPDX-License-Identifier: Apache-2.0
"""Five real nodes on a chain, under load: killed one after the other, cut off, hung, and removed.
tools/faults does such things for as long as one likes."""
import json

import pytest

from cluster import QUORUM, Cluster, Load, check
from harness import (DEADLINE_EXCEEDED, INVALID_ARGUMENT, PERMISSION_DENIED, CallError, Closed, Conn,
                     Wallet, eventually, fails)

LOCAL = 0


@pytest.fixture(scope="module")
def cluster():
    """Each test leaves all its nodes serving."""
    with Cluster(5) as cluster:
        yield cluster


def test_all_nodes_have_one_secret(cluster):
    keys = set()
    for number in cluster.numbers:
        with cluster.connect_known(number) as conn:
            keys.add(conn.call("Derive", path=b"one").key)
    assert len(keys) == 1
    assert len({cluster.page(n)["node"]["master_secret_hash"] for n in cluster.numbers}) == 1


def test_each_node_is_killed_in_turn(cluster):
    with Load(cluster, must_read=True, keys=50) as load:
        for number in cluster.numbers:
            load.await_acked(5)
            cluster.kill(number)
            load.await_acked(5)
            cluster.start(number)
            cluster.await_ready(number)
        check(cluster, load)
    assert cluster.resets() == 0


def test_both_sides_of_a_cut_go_on_and_meet(cluster):
    """The cut node serves those on its side; a quorum it has not."""
    cluster.order(2, "cut")
    with Load(cluster, keys=50) as load:
        load.await_acked(10)
        with cluster.connect(2, past_the_wire=True) as alone:
            alone.call("Put", key=b"keep/alone", value=b"from the cut side", durability=LOCAL)
            with fails(DEADLINE_EXCEEDED, "stored"):
                alone.call("Put", timeout_ms=2000, key=b"keep/alone-too", value=b"x",
                           durability=QUORUM)
        load.await_acked(10)
        assert cluster.value(1, b"keep/alone") is None
        cluster.order(2, "heal")
        load.await_acked(10)
        load.stop()
        load.check_faults()
    for number in cluster.numbers:
        eventually("the write of the cut side", lambda n=number: cluster.value(
            n, b"keep/alone") == b"from the cut side")
        eventually("the write that no quorum had", lambda n=number: cluster.value(
            n, b"keep/alone-too") == b"x")
    cluster.await_same()


def test_a_hung_peer_delays_nobody_else(cluster):
    """It accepts connections and never answers."""
    cluster.order(4, "hang")
    others = [n for n in cluster.numbers if n != 4]
    with cluster.connect_known(1) as conn:
        for count in range(20):
            conn.call("Put", key=b"keep/hung", value=b"%d" % count, durability=QUORUM)
    for number in others:
        eventually("the last write", lambda n=number: cluster.value(n, b"keep/hung") == b"19")
    assert all(cluster.serves(n) for n in others)
    cluster.order(4, "heal")
    eventually("the hung node", lambda: cluster.value(4, b"keep/hung") == b"19")


def connect_as(cluster, number, wallet):
    host, port = cluster.node(number)["listen"].split(":")
    return Conn((host, int(port)), pem=wallet.pem())


def refusal_of_peer(conn):
    """What a call says that only members may make, and that has nothing in it; None when the
    connection ends first."""
    try:
        conn.call_raw("PeerService/GetDigest")
    except CallError as error:
        return error.code
    except Closed as closed:
        return closed.goaway and closed.goaway.status
    raise AssertionError("an empty request was answered")


def test_a_removed_member_is_refused(cluster):
    """By the others, on the connection that it has and on a new one; and it serves nobody."""
    node = cluster.node(5)
    keys = json.loads((cluster.net.dir / "odyn-5.keys").read_text())
    wallet = Wallet(bytes.fromhex(keys["wallet"][2:]))
    with connect_as(cluster, 1, wallet) as conn:
        assert refusal_of_peer(conn) == INVALID_ARGUMENT
        cluster.net.platform("stopInstance(address)", node["wallet"])
        eventually("it is refused", lambda: refusal_of_peer(conn) in (PERMISSION_DENIED, None))
    with connect_as(cluster, 1, wallet) as conn:
        assert conn.drain().status == PERMISSION_DENIED
    eventually("it is out of service", lambda: "is STOPPED" in (cluster.net.unready(node) or ""))
    for number in (1, 2, 3, 4):
        eventually("node-%d counts four" % number,
                   lambda n=number: cluster.page(n)["cluster"]["total_instances"] == 4)
        assert node["wallet"] not in [
            m["wallet"] for m in cluster.page(number)["cluster"]["members"]]
    with cluster.connect_known(1) as conn:
        conn.call("Put", key=b"keep/removed", value=b"four of four", durability=QUORUM)
    cluster.net.chain.transact(*cluster.net.registration(node, 1))
    cluster.await_ready(5)
    eventually("what it missed", lambda: cluster.value(5, b"keep/removed") == b"four of four")


def lasting(contents):
    """Without what expires meanwhile."""
    return {key: stamp for key, stamp in contents.items() if b"/drop/" not in key}


def test_all_but_one_are_killed(cluster):
    """More than the promise covers: the others wait for more than the survivor, then go on with what
    it has, and count that."""
    survivor, *others = cluster.numbers
    before = lasting(cluster.await_same())
    for number in others:
        cluster.kill(number)
    assert cluster.serves(survivor)
    with cluster.connect_known(survivor) as conn:
        conn.call("Put", key=b"keep/survivor", value=b"still here")
    for number in others:
        cluster.start(number)
    cluster.await_ready()
    after = lasting(cluster.await_same())
    assert after.pop(b"keep/survivor")
    assert after == before
    assert cluster.resets() > 0
