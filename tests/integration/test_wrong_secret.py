# SPDX-License-Identifier: Apache-2.0
"""A member of the cluster, by the registry, that holds another master secret than the others. It is a
node like them, but its KMSRegistry is another chain's, where it was the first; both chains' platform
registries list all of them."""
import contextlib
import importlib
import json
import os
import pathlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_public_key

import chain as chains
from chain import KMS_APP, Chain, Cluster
from harness import (DEADLINE_EXCEEDED, FAILED_PRECONDITION, CallError, Wallet, eventually, fails,
                     keccak256, kms_pb)
from test_hostile_member import envelope_key

peer_pb = importlib.import_module("novakms.v1.peer_pb2")
REASON = "the two nodes hold different master secrets"
QUORUM = {"durability": kms_pb.DURABILITY_QUORUM}


def own_keys(odyn):
    """What only this Odyn should know: its wallet, and the key of its teePubkey."""
    keys = json.loads(pathlib.Path(odyn.dir.name, "keys").read_text())
    return (Wallet(bytes.fromhex(keys["wallet"][2:])),
            ec.derive_private_key(int(keys["encryption"], 16), ec.SECP384R1()))


@pytest.fixture(scope="module")
def both(chain):
    """A cluster of three, and one of two, of which the first is made the three's fourth member. Each
    is whole before it hears of the other."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(contextlib.closing(Chain()))
        clusters = [stack.enter_context(contextlib.closing(Cluster(where, count)))
                    for where, count in ((chain, 3), (other, 2))]
        assert chains.ZERO_HASH != other.secret_hash() != chain.secret_hash()
        for i, cluster in enumerate(clusters):
            with cluster.nodes[0].connect_known(cluster.caller) as kms:
                kms.call("Put", key=b"of cluster %d" % i, value=b"1", **QUORUM)
        last = [list_on(other, node) for node in clusters[0].nodes][-1]
        chain.wait(list_on(chain, clusters[1].nodes[0]))
        other.wait(last)
        yield clusters


@pytest.fixture
def good(both):
    return both[0]


@pytest.fixture
def wrong(both):
    return both[1].nodes[0]


def list_on(chain, node):
    return chain.begin_register(node.odyn.wallet, KMS_APP, node.env["NODE_URL"],
                                node.odyn.tee_pubkey())


def metric(node, name):
    return int(re.search(r"^nova_kms_%s (\d+)$" % re.escape(name), node.metrics(), re.M).group(1))


def failed_pulls(node):
    return metric(node, 'replication_pulls_total{result="failed"}')


def view(node, of):
    """What a node says of another member."""
    return next((m for m in node.page("/status")[1]["cluster"]["members"]
                 if m["wallet"] == of.odyn.wallet), None)


def await_refused(pairs):
    """Each node by the other, several times: whatever could have flown has had the time to."""
    for node, by in pairs:
        node.eventually("it sees why", lambda n=node, b=by: (view(n, b) or {}).get("error") == REASON)
    before = [failed_pulls(node) for node, _ in pairs]
    for (node, _), count in zip(pairs, before):
        node.eventually("it was refused again", lambda n=node, c=count: failed_pulls(n) >= c + 3)


def keys(kms):
    return {entry.key for entry in kms.call("List", limit=1000).entries}


def test_no_data_flows_and_each_says_why(both, good, wrong):
    with good.nodes[0].connect_known(good.caller) as kms, \
            wrong.connect_known(both[1].caller) as theirs:
        kms.call("Put", key=b"of the good", value=b"2", **QUORUM)
        theirs.call("Put", key=b"of the wrong one", value=b"3")
        await_refused([pair for node in good.nodes for pair in ((node, wrong), (wrong, node))])
        for node in good.nodes:
            assert not view(node, wrong)["reachable"] and not view(wrong, node)["reachable"]
            assert node.page("/health")[0] == 200
            node.eventually("it reaches the others", lambda n=node: metric(
                n, "replication_members_reachable") == 2)
        assert keys(kms) == {b"of cluster 0", b"of the good"}
        assert keys(theirs) == {b"of cluster 1", b"of the wrong one"}
    for node in good.nodes + both[1].nodes:
        count = 0 if node in (good.nodes[0], wrong) else 2  # That one wrote what the others have.
        node.eventually("it has what its own cluster has", lambda n=node, c=count: metric(
            n, "replication_applied_records_total") == c)
        assert metric(node, "replication_forged_records_total") == 0


def await_one_peer(kms, key):
    """A quorum of three is never met by two."""
    def found():
        try:
            kms.call("Put", 3000, key=key, value=b"1", **QUORUM)
        except CallError as error:
            assert error.code == DEADLINE_EXCEEDED, error
            return "stored here and on 1 peers" in error.message
        raise AssertionError("two nodes made a quorum")
    eventually("one peer acknowledges", found)


def test_it_acknowledges_nothing(both, good, wrong):
    """Four members: a quorum is the writer and two more. Nor is it one of those that a node which
    starts must hear."""
    starter = good.nodes[2]
    with good.nodes[0].connect_known(good.caller) as kms:
        for i in range(5):
            kms.call("Put", key=b"three of four", value=b"%d" % i, **QUORUM)
        starter.kill()
        await_one_peer(kms, b"two of four")
        starter.start()
        starter.await_ready()
        kms.call("Put", key=b"three again", value=b"1", **QUORUM)
    with starter.connect_known(good.caller) as kms:
        assert {b"three of four", b"two of four"} <= keys(kms)
    assert starter.page("/status")[1]["cluster"]["durability_resets"] == 0
    with wrong.connect_known(both[1].caller) as theirs:  # Five members, by its chain.
        await_one_peer(theirs, b"two of five")


def ask(conn, method, **fields):
    request = getattr(peer_pb, method + "Request")(**fields)
    return conn.call_raw("PeerService/" + method, request.SerializeToString())


def secrets(node):
    return [metric(node, 'secret_requests_total{result="%s"}' % how)
            for how in ("given", "refused", "failed")]


def test_what_it_may_ask_for(chain, good, wrong):
    """With its wallet, which is a confirmed member's. The secret it gets as one that joins would: by
    the right hash, and so that only the registered teePubkey opens it."""
    giver = good.nodes[0]
    wallet, key = own_keys(wrong.odyn)
    own = bytes.fromhex(wrong.page("/status")[1]["node"]["master_secret_hash"][2:])
    right = bytes.fromhex(chain.secret_hash()[2:])
    state = {"incarnation": os.urandom(16), "unix_ms": 1, "in_service": True}
    given, refused, failed = secrets(giver)
    with giver.connect(wallet) as conn:
        for secret_hash in (own, b""):
            for method in ("Pull", "GetDigest"):
                with fails(FAILED_PRECONDITION, REASON):
                    ask(conn, method, state={"master_secret_hash": secret_hash, **state})
        state["master_secret_hash"] = own
        nonce = os.urandom(32)
        for wanted in (own, os.urandom(32), bytes(32)):
            with fails(FAILED_PRECONDITION, "does not hold the master secret with that hash"):
                ask(conn, "FetchMasterSecret", state=state, wanted_hash=wanted, nonce=nonce)
        assert secrets(giver) == [given, refused + 3, failed]
        answer = peer_pb.FetchMasterSecretResponse.FromString(
            ask(conn, "FetchMasterSecret", state=state, wanted_hash=right, nonce=nonce))
    assert secrets(giver) == [given + 1, refused + 3, failed]
    sender = load_der_public_key(answer.sender_public_key)
    text = json.loads(AESGCM(envelope_key(key, sender, answer.seal_nonce)).decrypt(
        answer.seal_nonce, answer.sealed, None))
    assert keccak256(bytes.fromhex(text["secret"][2:])) == right
    assert (text["to"], text["from"]) == (wrong.odyn.wallet, giver.odyn.wallet)
    assert text["nonce"] == "0x" + nonce.hex()


def test_all_serve_on(both, good, wrong):
    for node in good.nodes + both[1].nodes:
        assert node.page("/health")[0] == 200
    with wrong.connect_known(both[1].caller) as theirs:
        assert keys(theirs) == {b"of cluster 1", b"of the wrong one", b"two of five"}
