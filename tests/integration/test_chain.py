# SPDX-License-Identifier: Apache-2.0
"""A node as it is deployed, against a real EVM chain and odyn-sim: it becomes ready, leaves service for
the one reason, and comes back. The chain and its contracts are shared; each test has its own node and
leaves the KMS's hash as it found it: reset."""
import chain as chains
from chain import KMS_APP, SAMPLE_APP, ZERO_HASH, LiveNode, Odyn
from harness import UNAVAILABLE, eventually, fails


def check_serves(node):
    with node.connect_app() as kms:
        key = kms.call("Derive", path=b"p", length=32).key
        kms.call("Put", key=b"k", value=b"v")
        assert kms.call("Get", key=b"k").value == b"v"
        return key


def test_from_a_zero_hash_to_ready(chain, make_live_node):
    node = make_live_node(register=False, fund=False)
    node.await_reason("wallet is not registered")
    chain.register(node.odyn.wallet, KMS_APP, LiveNode.URL, node.odyn.tee_pubkey())
    reason = node.await_reason("the wallet needs funds")
    assert node.odyn.wallet in reason and " wei are missing" in reason
    assert 'reason="%s"' % reason in node.output()
    start = reason[:reason.index("funds")]  # The amount follows the chain's fees.
    assert node.page("/status")[1]["reason"].startswith(start)
    with node.connect() as conn:
        assert conn.call("NodeService/GetStatus").reason.startswith(start)
    with node.connect_app() as kms, fails(UNAVAILABLE, start):
        kms.call("Derive", path=b"p", length=32)
    chain.fund(node.odyn.wallet)
    node.await_ready()
    status = node.page("/status")[1]["node"]
    assert status["master_secret_hash"] == chain.secret_hash() != ZERO_HASH
    assert status["tee_wallet"] == node.odyn.wallet
    assert status["is_operator"] is True
    assert chain.rpc("eth_getTransactionCount", node.odyn.wallet, "latest") == "0x1"
    check_serves(node)
    # A node that comes back without the secret cannot have it from anybody, and says so.
    node.stop()
    node.start()
    node.await_reason("fetching the master secret with the hash on chain from a peer: "
                      "there is no other member")
    assert node.page("/health/live")[0] == 200
    assert chain.rpc("eth_getTransactionCount", node.odyn.wallet, "latest") == "0x1"


def test_membership_is_lost_and_won(chain, make_live_node):
    node = make_live_node()
    node.await_ready()
    key = check_serves(node)
    with node.connect_app() as kms:
        kms.call("Derive", path=b"p", length=32)
        chain.set_app_status(KMS_APP, chains.INACTIVE)
        reason = node.await_reason("app is INACTIVE")
        with fails(UNAVAILABLE, reason):
            kms.call("Derive", path=b"p", length=32)
        chain.set_app_status(KMS_APP, chains.ACTIVE)
        node.await_ready()
        kms.call("Derive", path=b"p", length=32)
    chain.run(chain.apps, "setTeePubkey(address,bytes)", node.odyn.wallet, b"\x02" * 120)
    node.await_reason("the registered teePubkey is not this enclave's")
    chain.run(chain.apps, "setTeePubkey(address,bytes)", node.odyn.wallet, node.odyn.tee_pubkey())
    node.await_ready()
    chain.stop_instance(node.odyn.wallet)
    node.await_reason("instance is STOPPED")
    node.register(url="https://elsewhere.test:8443")
    node.await_reason("the registered instanceUrl is not NODE_URL")
    chain.stop_instance(node.odyn.wallet)
    node.register()
    node.await_ready()
    # The secret was held all the while.
    with node.connect_app() as kms:
        assert kms.call("WhoAmI").app_id == SAMPLE_APP
        assert kms.call("Derive", path=b"p", length=32).key == key
    assert "adopted" in node.output() and node.output().count("bootstrap.secret") == 1


def test_hash_reset_while_running(chain, make_live_node):
    node = make_live_node()
    node.await_ready()
    key, before = check_serves(node), chain.secret_hash()
    chain.reset_hash()
    # It submits its own secret's hash again; how long it is out of service depends on its ticks.
    eventually("the hash is set again", lambda: chain.secret_hash() == before, every_s=0.2)
    node.await_ready()
    assert check_serves(node) == key
    assert node.output().count("bootstrap.secret") == 1


def test_odyn_gone_and_back(chain, make_live_node):
    odyn = Odyn()
    odyn.stop()
    node = make_live_node(odyn=odyn, register=False)
    node.await_reason("waiting for the enclave's wallet and key from Odyn: ")
    odyn.start()
    node.register()
    node.await_ready()
    odyn.stop()
    key = check_serves(node)
    node.eventually("Odyn is missed", lambda: "failed task=IDENTITY" in node.output())
    assert node.page("/health")[0] == 200, "a wallet once proven needs no Odyn"
    odyn.start()
    assert check_serves(node) == key


def test_odyn_has_another_wallet(chain, make_live_node):
    node = make_live_node()
    node.await_ready()
    key, former = check_serves(node), node.odyn.wallet
    node.odyn.sim("wallet")
    reason = node.await_reason("wallet is not registered")
    assert node.odyn.wallet in reason and former not in reason
    assert "identity.changed" in node.output()
    chain.stop_instance(former)
    node.register()
    node.await_ready()
    assert node.page("/status")[1]["node"]["tee_wallet"] == node.odyn.wallet
    assert check_serves(node) == key
