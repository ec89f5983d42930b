# SPDX-License-Identifier: Apache-2.0
"""The chain takes blocks back, the one that set the master secret's hash among them. Blocks are made by
the test, so that nothing depends on how fast the node is."""
import pytest

from chain import KMS_APP, SAMPLE_APP, ZERO_HASH, LiveNode, Odyn, await_served, derive
from harness import UNAVAILABLE, Wallet, fails

SLOW = {"HEAD_STALL_SECONDS": "600", "REGISTRY_CACHE_TTL_SECONDS": "900"}


@pytest.fixture
def frozen(chain):
    """With a registered node's Odyn, and a caller's wallet: what is registered in blocks that are
    taken back would be gone too."""
    odyn, wallet = Odyn(), Wallet()
    chain.fund(odyn.wallet)
    chain.register(odyn.wallet, KMS_APP, LiveNode.URL, odyn.tee_pubkey())
    chain.register(wallet.text, SAMPLE_APP)
    chain.freeze()
    chain.mine(6)  # Below the head the contracts are there too.
    yield odyn, wallet
    chain.thaw()


def mine_the_hash(chain, node):
    """The node's transaction, in a block with none on top."""
    node.eventually("the node's transaction", lambda: chain.pending_count() == 1)
    chain.mine()
    assert chain.secret_hash() != ZERO_HASH


def test_before_its_confirmation(chain, make_live_node, frozen):
    """Keys of a hash that may still be taken back are never handed out."""
    odyn, wallet = frozen
    node = make_live_node(odyn=odyn, register=False, HASH_CONFIRMATIONS="3", **SLOW)
    mine_the_hash(chain, node)
    first = chain.secret_hash()
    chain.mine(2)
    reason = node.await_reason("hash to be confirmed on chain")
    with node.connect_known(wallet) as kms:
        with fails(UNAVAILABLE, reason):
            derive(kms)
        chain.reorganise(3)
        assert chain.secret_hash() == ZERO_HASH
        node.await_reason("setting the master secret's hash on chain")
        with fails(UNAVAILABLE, "setting the master secret's hash on chain"):
            derive(kms)
        assert "node.serving" not in node.output()
        # It submits the secret that it holds, not another one, and serves three blocks later.
        mine_the_hash(chain, node)
        assert chain.secret_hash() == first
        chain.mine(2)
        node.await_reason("hash to be confirmed on chain")
        assert "node.serving" not in node.output()
        chain.mine()
        node.await_ready()
        await_served(node, kms)
    assert node.page("/status")[1]["node"]["master_secret_hash"] == first
    assert node.output().count("bootstrap.secret") == 1


def test_after_its_confirmation(chain, make_live_node, frozen):
    """Deeper than HASH_CONFIRMATIONS: the holder keeps its secret and its data, leaves service, and
    submits the hash again."""
    odyn, wallet = frozen
    node = make_live_node(odyn=odyn, register=False, HASH_CONFIRMATIONS="2", **SLOW)
    mine_the_hash(chain, node)
    first = chain.secret_hash()
    chain.mine(2)
    node.await_ready()
    with node.connect_known(wallet) as kms:
        key = derive(kms)
        kms.call("Put", key=b"k", value=b"v")
        chain.reorganise(3)
        assert chain.secret_hash() == ZERO_HASH
        reason = node.await_reason("setting the master secret's hash on chain")
        with fails(UNAVAILABLE, reason):
            derive(kms)
        mine_the_hash(chain, node)
        assert chain.secret_hash() == first
        assert node.page("/health")[0] == 503, "it is not confirmed yet"
        chain.mine(2)
        node.await_ready()
        assert await_served(node, kms) == key
        assert kms.call("Get", key=b"k").value == b"v"
    assert node.output().count("bootstrap.secret") == 1


def test_a_shorter_chain(chain, make_live_node, frozen):
    """The head's number goes back, too."""
    odyn, wallet = frozen
    node = make_live_node(odyn=odyn, register=False, HASH_CONFIRMATIONS="1", **SLOW)
    mine_the_hash(chain, node)
    chain.mine()
    node.await_ready()
    with node.connect_known(wallet) as kms:
        key = derive(kms)
        before = chain.block()[0]
        chain.roll_back(2)
        assert chain.secret_hash() == ZERO_HASH and chain.block()[0] == before - 1
        node.await_reason("setting the master secret's hash on chain")
        chain.thaw()
        node.await_ready()
        assert await_served(node, kms) == key
    assert node.output().count("bootstrap.secret") == 1
