# SPDX-License-Identifier: Apache-2.0
"""What the registry on chain says of callers and of the node itself: each of its rules refuses with its
reason, and nobody else notices."""
import chain as chains
from chain import KMS_APP, SAMPLE_APP, await_refusal, await_served, derive
from harness import PERMISSION_DENIED, UNAVAILABLE, Wallet, eventually, fails


def test_app_and_version_of_a_caller(chain, make_live_node):
    node, app = make_live_node(), 2 ** 64 - 1
    node.await_ready()
    chain.add_app(app)
    with node.connect_app() as other, node.connect_app(app) as kms:
        assert kms.call("WhoAmI").app_id == app
        chain.set_app_status(app, chains.INACTIVE)
        error = await_refusal(node, kms)
        assert error.code == PERMISSION_DENIED and "app is INACTIVE" in error.message
        chain.set_app_status(app, chains.ACTIVE)
        await_served(node, kms)
        chain.run(chain.apps, "deprecateVersion(uint256,uint256)", app, 1)
        derive(kms)
        chain.run(chain.apps, "revokeVersion(uint256,uint256)", app, 1)
        assert "version is REVOKED" in await_refusal(node, kms).message
        derive(other)


def test_proof_of_a_caller(chain, make_live_node):
    node = make_live_node()
    node.await_ready()
    chain.begin(chain.apps, "setVerifier(uint256,address)", SAMPLE_APP, chains.ZERO_ADDRESS)
    try:
        wallet = Wallet()
        chain.register(wallet.text, SAMPLE_APP)

        def refusal():
            goaway = node.refusal(wallet)
            return goaway if "not registered" not in goaway.reason else None
        goaway = node.eventually("a refusal", refusal)
        assert goaway.status == PERMISSION_DENIED
        assert "instance is not zk-verified" in goaway.reason
    finally:
        chain.run(chain.apps, "setVerifier(uint256,address)", SAMPLE_APP, chain.verifier)


def test_an_app_id_that_does_not_fit(chain, make_live_node):
    """2^64 + 49 is the KMS's own app in 64 bits."""
    node = make_live_node()
    node.await_ready()
    with node.connect_app() as other:
        for app in (2 ** 64 + KMS_APP, 2 ** 256 - 1):
            chain.add_app(app)
            wallet = Wallet()
            chain.register(wallet.text, app)

            def refusal():
                goaway = node.refusal(wallet)
                return goaway if "not registered" not in goaway.reason else None
            goaway = node.eventually("a refusal", refusal)
            assert goaway.status == UNAVAILABLE
            assert wallet.text in goaway.reason and "appId" in goaway.reason
            assert "2^64-1" in goaway.reason
            derive(other)
        with node.connect_app() as later:
            derive(later)
    assert node.page("/status")[1]["cluster"]["total_instances"] == 1
    assert node.output().count("node.serving") == 1 and "node.unavailable" not in node.output()[
        node.output().index("node.serving"):]


def test_the_nodes_own_proof_and_version(chain, make_live_node):
    node = make_live_node()
    node.await_ready()
    with node.connect_app() as kms:
        key = derive(kms)
        chain.stop_instance(node.odyn.wallet)
        node.await_reason("instance is STOPPED")
        chain.begin(chain.apps, "setVerifier(uint256,address)", KMS_APP, chains.ZERO_ADDRESS)
        node.register()
        reason = node.await_reason("instance is not zk-verified")
        with fails(UNAVAILABLE, reason):
            derive(kms)
        chain.begin(chain.apps, "setVerifier(uint256,address)", KMS_APP, chain.verifier)
        chain.begin(chain.apps, "stopInstance(address)", node.odyn.wallet)
        node.register()
        node.await_ready()
        assert derive(kms) == key
        # A deprecated version goes on, a revoked one does not.
        said = len(node.output())
        chain.run(chain.apps, "deprecateVersion(uint256,uint256)", KMS_APP, 1)
        deprecated_at = chain.block()[0]
        eventually("the node has read of it", lambda: chain.block()[0] > deprecated_at + 3)
        assert derive(kms) == key and "node.unavailable" not in node.output()[said:]
        chain.run(chain.apps, "revokeVersion(uint256,uint256)", KMS_APP, 1)
        reason = node.await_reason("version is REVOKED")
        with fails(UNAVAILABLE, reason):
            derive(kms)
        chain.begin(chain.apps, "enrollVersion(uint256,string,bytes32,string)", KMS_APP, "v2",
                    chains.B32(chains.MEASUREMENT), "image")
        chain.begin(chain.apps, "stopInstance(address)", node.odyn.wallet)
        node.register(version=2)
        node.await_ready()
        assert derive(kms) == key
    assert node.output().count("bootstrap.secret") == 1
