# SPDX-License-Identifier: Apache-2.0
"""Who may call: the registry's rules, their changes while connections are open, and limits."""
import json
import os
import threading
import time

import pytest

import harness
from harness import (PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE, CallError, Closed, Wallet,
                     kms_pb)


def outcome(conn):
    """The code of a call, and the sentence: of its answer, or of the goaway that ended it."""
    try:
        conn.call("Derive", path=b"p")
        return 0, ""
    except CallError as error:
        return error.code, error.message
    except Closed as closed:
        assert closed.goaway is not None, "closed without a word"
        return closed.goaway.status, closed.goaway.reason


def cut_off(conn, code=PERMISSION_DENIED):
    """Waits until calls on this open connection are refused; gives the sentence."""
    def refused():
        got, reason = outcome(conn)
        assert got in (0, code), reason
        return reason if got == code else None
    return harness.eventually("the caller is cut off", refused)


def comes_back(node, wallet):
    node.connect_until_known(wallet).close()


@pytest.mark.parametrize("change,word", [
    ({"status": "STOPPED"}, "STOPPED"), ({"status": "FAILED"}, "FAILED"),
    ({"zkVerified": False}, "verified")], ids=str)
def test_an_instance_that_changes_while_connected(node, change, word):
    wallet, conn = node.new_app()
    with conn:
        assert outcome(conn) == (0, "")
        node.change_instance(wallet, **change)
        assert word in cut_off(conn)
        with node.connect(wallet) as again:
            assert outcome(again)[0] == PERMISSION_DENIED
    node.change_instance(wallet, status="ACTIVE", zkVerified=True)
    comes_back(node, wallet)


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
def test_an_app_that_changes_while_connected(node, status):
    wallet, conn = node.new_app()
    with conn:
        with node.edit() as registry:
            next(a for a in registry["apps"] if int(a["id"]) == wallet.app_id)["status"] = status
        assert status in cut_off(conn)


def test_a_version_that_changes_while_connected(node):
    wallet, conn = node.new_app()

    def set_version(status):
        with node.edit() as registry:
            next(v for v in registry["versions"]
                 if int(v["appId"]) == wallet.app_id)["status"] = status
    with conn:
        set_version("DEPRECATED")  # Still allowed.
        probe, probe_conn = node.new_app()  # When this is known, so is the change before it.
        probe_conn.close()
        assert outcome(conn) == (0, "")
        set_version("REVOKED")
        assert "REVOKED" in cut_off(conn)


def test_an_instance_that_is_removed_while_connected(node):
    wallet, conn = node.new_app()
    with conn:
        with node.edit() as registry:
            registry["instances"] = [i for i in registry["instances"]
                                     if i["teeWalletAddress"] != wallet.text]
        assert "registered" in cut_off(conn)


def test_others_are_not_disturbed_by_a_revocation(node, kms):
    wallet, conn = node.new_app()
    stop, failures = threading.Event(), []

    def work():
        while not stop.is_set():
            code, reason = outcome(kms)
            if code != 0:
                failures.append(reason)
                return
    thread = threading.Thread(target=work)
    thread.start()
    with conn:
        node.change_instance(wallet, status="STOPPED")
        cut_off(conn)
    stop.set()
    thread.join()
    assert not failures


def test_a_caller_that_is_allowed_again(node):
    """On the connection it has, and on a new one."""
    wallet, conn = node.new_app()
    with conn:
        node.change_instance(wallet, status="STOPPED")
        cut_off(conn)
        with node.connect(wallet) as refused:
            assert refused.drain().status == PERMISSION_DENIED
        node.change_instance(wallet, status="ACTIVE")
        harness.eventually("it may call again", lambda: outcome(conn)[0] == 0)
    comes_back(node, wallet)


@pytest.mark.parametrize("changes", [
    {"status": "STOPPED"}, {"status": "FAILED"}, {"zkVerified": False}], ids=str)
def test_callers_that_never_were_allowed(node, changes):
    wallet = Wallet()
    node.enrol(wallet, **changes)
    probe, probe_conn = node.new_app()
    probe_conn.close()
    with node.connect(wallet) as conn:
        code, reason = outcome(conn)
        assert code == PERMISSION_DENIED and reason


def test_an_app_id_of_twenty_digits(node):
    wallet = Wallet()
    node.enrol(wallet, app_id=2 ** 64 - 1)
    with node.connect_until_known(wallet) as conn:
        assert conn.call("WhoAmI").app_id == 2 ** 64 - 1


def test_strangers_do_not_exhaust_the_node(node, kms):
    """Unknown wallets have a budget of their own; known callers are served meanwhile."""
    for _ in range(60):
        with node.connect(Wallet()) as conn:
            code, _ = outcome(conn)
            assert code in (PERMISSION_DENIED, RESOURCE_EXHAUSTED)
        kms.call("WhoAmI")


# --- The registry file -------------------------------------------------------------------------------

@pytest.mark.parametrize("text", [
    "", "{", "[]", "{}", '{"kms_app_id": 49}', "\0", "null",
    '{"kms_app_id": "x", "apps": [], "versions": [], "instances": []}'], ids=range(8))
def test_a_registry_that_becomes_invalid(make_node, text):
    """The last good view counts until its time is over; then calls fail closed, with the reason;
    a good file ends that."""
    node = make_node(REGISTRY_CACHE_TTL_SECONDS=2, REGISTRY_REFRESH_SECONDS=1)
    wallet, conn = node.new_app()
    good = node.registry_path.read_text()
    node.write_registry(text)
    with conn:
        reason = cut_off(conn, UNAVAILABLE)
        assert "registry" in reason
        status, _, body = node.get("/health")
        assert (status == 200) or "registry" in json.loads(body)["reason"]
        with node.connect(Wallet()) as stranger:
            assert outcome(stranger)[0] in (UNAVAILABLE, RESOURCE_EXHAUSTED)
    node.write_registry(good)
    comes_back(node, wallet)


def test_a_registry_that_vanishes(make_node):
    node = make_node(REGISTRY_CACHE_TTL_SECONDS=2, REGISTRY_REFRESH_SECONDS=1)
    wallet, conn = node.new_app()
    good = node.registry_path.read_text()
    os.unlink(node.registry_path)
    with conn:
        cut_off(conn, UNAVAILABLE)
    node.write_registry(good)
    comes_back(node, wallet)


def test_a_registry_with_a_dangling_reference(make_node):
    node = make_node(REGISTRY_CACHE_TTL_SECONDS=2, REGISTRY_REFRESH_SECONDS=1)
    wallet, conn = node.new_app()
    with conn:
        with node.edit() as registry:
            registry["instances"][-1]["versionId"] = 999999
        assert "registry" in cut_off(conn, UNAVAILABLE)


def test_the_node_itself_is_no_longer_a_member(make_node):
    """It takes itself out of service, says why, and returns."""
    node = make_node()
    wallet, conn = node.new_app()

    def own(status):
        with node.edit() as registry:
            next(i for i in registry["instances"]
                 if i["teeWalletAddress"] == node.wallet)["status"] = status
    with conn:
        own("STOPPED")
        reason = cut_off(conn, UNAVAILABLE)
        status, _, body = harness.eventually(
            "health says so", lambda: (lambda r: r if r[0] == 503 else None)(node.get("/health")))
        assert json.loads(body) == {"status": "unavailable", "reason": reason}
        assert json.loads(node.get("/status")[2])["node"]["is_operator"] is False
        answer = conn.call("NodeService/GetStatus")
        assert not answer.serving and answer.reason == reason
        assert node.get("/health/live")[0] == 200
        own("ACTIVE")
        harness.eventually("it serves again", lambda: outcome(conn)[0] == 0)
        assert node.get("/health")[0] == 200


# --- Rate limit --------------------------------------------------------------------------------------

def test_rate_limit(make_node):
    node = make_node(RATE_LIMIT_PER_MINUTE=30)
    wallet, conn = node.new_app()
    with conn, node.connect(wallet) as second:
        done = 0
        with pytest.raises(CallError) as error:
            for i in range(1000):
                (conn if i % 2 else second).call("Derive", path=b"p")  # Both count together.
                done += 1
        assert done >= 30
        assert error.value.code == RESOURCE_EXHAUSTED
        wait_ms = error.value.details.retry_after_ms
        assert 0 < wait_ms <= 60000
        conn.call("NodeService/GetStatus")  # Public calls are not counted.
        other, other_conn = node.new_app()  # Nor does one wallet's limit touch another's.
        other_conn.close()
        time.sleep(wait_ms / 1000)  # What the answer told us to wait.
        harness.eventually("the limit lets it through", lambda: outcome(conn)[0] == 0)


def test_no_rate_limit(node, kms):
    ids = [kms.begin("KmsService/WhoAmI") for _ in range(3000)]
    assert all(kms.finish(i)[0].status == 0 for i in ids)


def test_a_batch_is_not_a_way_around_the_limit(make_node):
    """A batch counts as what is in it, or at least as one call."""
    node = make_node(RATE_LIMIT_PER_MINUTE=30)
    wallet, conn = node.new_app()
    with conn:
        items = kms_pb.BatchDeriveRequest(items=[{"path": b"p"}] * 256).SerializeToString()
        with pytest.raises(CallError) as error:
            for _ in range(1000):
                conn.call_raw("KmsService/BatchDerive", items)
        assert error.value.code == RESOURCE_EXHAUSTED
