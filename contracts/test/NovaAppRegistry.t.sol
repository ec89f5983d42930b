// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {NovaAppRegistry} from "../dev/NovaAppRegistry.sol";
import {IInstanceVerifier} from "../dev/IInstanceVerifier.sol";
import {INovaAppRegistry} from "../src/INovaAppRegistry.sol";
import {Fixture} from "./Fixture.sol";

contract NovaAppRegistryTest is Fixture {
    function test_AppsGetTheNextFreeId() public {
        assertEq(platform.createApp(address(0), "a", alice), 1);
        platform.createAppWithId(2, address(0), "b", bob);
        assertEq(platform.createApp(address(0), "c", bob), 3);
        INovaAppRegistry.App memory app = platform.getApp(1);
        assertEq(app.id, 1);
        assertEq(app.owner, address(this));
        assertEq(app.appWallet, alice);
        assertEq(app.createdAt, block.timestamp);
        assertTrue(app.status == INovaAppRegistry.AppStatus.ACTIVE);
        assertEq(platform.getApp(4).id, 0);
    }

    function test_AppIdsAreNotReused() public {
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.AppExists.selector, KMS_APP));
        platform.createAppWithId(KMS_APP, address(0), "", address(0));
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.ZeroAppId.selector));
        platform.createAppWithId(0, address(0), "", address(0));
    }

    function test_AppIdsAre256BitsWide() public {
        platform.createAppWithId(type(uint256).max, address(0), "", address(0));
        assertEq(platform.getApp(type(uint256).max).id, type(uint256).max);
    }

    function test_OnlyTheOwnerChangesAnApp() public {
        bytes memory refusal = abi.encodeWithSelector(NovaAppRegistry.NotAllowed.selector, stranger);
        register(alice);
        vm.startPrank(stranger);
        vm.expectRevert(refusal);
        platform.setDappContract(KMS_APP, stranger);
        vm.expectRevert(refusal);
        platform.setVerifier(KMS_APP, IInstanceVerifier(stranger));
        vm.expectRevert(refusal);
        platform.setAppStatus(KMS_APP, INovaAppRegistry.AppStatus.REVOKED);
        vm.expectRevert(refusal);
        platform.enrollVersion(KMS_APP, "", 0, "");
        vm.expectRevert(refusal);
        platform.deprecateVersion(KMS_APP, 1);
        vm.expectRevert(refusal);
        platform.revokeVersion(KMS_APP, 1);
        vm.expectRevert(refusal);
        platform.stopInstance(alice);
        vm.expectRevert(refusal);
        platform.failInstance(alice);
        vm.expectRevert(refusal);
        platform.setTeePubkey(alice, "");
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.UnknownApp.selector, 7));
        platform.setAppStatus(7, INovaAppRegistry.AppStatus.ACTIVE);
    }

    function test_VersionsCountFromOne() public {
        assertEq(platform.enrollVersion(KMS_APP, "1.1.0", keccak256("x"), "image:1.1"), 2);
        assertEq(platform.getApp(KMS_APP).latestVersionId, 2);
        INovaAppRegistry.AppVersion memory version = platform.getVersion(KMS_APP, 2);
        assertEq(version.id, 2);
        assertEq(version.codeMeasurement, keccak256("x"));
        assertEq(version.enrolledBy, address(this));
        assertTrue(version.status == INovaAppRegistry.VersionStatus.ENROLLED);
        assertEq(platform.getVersion(KMS_APP, 3).id, 0);
    }

    function test_RevokedVersionsStayRevoked() public {
        platform.revokeVersion(KMS_APP, 1);
        vm.expectRevert(
            abi.encodeWithSelector(NovaAppRegistry.VersionIsRevoked.selector, KMS_APP, 1)
        );
        platform.deprecateVersion(KMS_APP, 1);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.UnknownVersion.selector, KMS_APP, 9));
        platform.revokeVersion(KMS_APP, 9);
    }

    function test_InstanceIsRegisteredVerified() public {
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.InstanceRegistered(1, KMS_APP, alice, true);
        assertEq(register(alice), 1);
        INovaAppRegistry.RuntimeInstance memory instance = platform.getInstanceByWallet(alice);
        assertEq(instance.id, 1);
        assertEq(instance.appId, KMS_APP);
        assertEq(instance.versionId, 1);
        assertEq(instance.operator, address(this));
        assertEq(instance.teeWalletAddress, alice);
        assertEq(keccak256(instance.teePubkey), keccak256(PUBKEY));
        assertTrue(instance.zkVerified);
        assertTrue(instance.status == INovaAppRegistry.InstanceStatus.ACTIVE);
        assertEq(platform.getActiveInstances(KMS_APP)[0], alice);
        assertEq(platform.getInstanceByWallet(bob).id, 0);
    }

    function test_BadProofIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.BadProof.selector, alice));
        platform.registerInstance(KMS_APP, 1, alice, "", PUBKEY, proofOf(bob));
    }

    function test_WithoutVerifierTheInstanceIsUnverified() public {
        platform.setVerifier(KMS_APP, IInstanceVerifier(address(0)));
        platform.registerInstance(KMS_APP, 1, alice, "", PUBKEY, "");
        assertFalse(platform.getInstanceByWallet(alice).zkVerified);
    }

    function test_RegistrationNeedsAnActiveAppAndAnEnrolledVersion() public {
        bytes memory proof = proofOf(alice);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.UnknownApp.selector, 7));
        platform.registerInstance(7, 1, alice, "", PUBKEY, proof);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.UnknownVersion.selector, KMS_APP, 2));
        platform.registerInstance(KMS_APP, 2, alice, "", PUBKEY, proof);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.ZeroAddress.selector));
        platform.registerInstance(KMS_APP, 1, address(0), "", PUBKEY, proof);
        platform.deprecateVersion(KMS_APP, 1);
        vm.expectRevert(
            abi.encodeWithSelector(NovaAppRegistry.VersionNotEnrolled.selector, KMS_APP, 1)
        );
        platform.registerInstance(KMS_APP, 1, alice, "", PUBKEY, proof);
        platform.setAppStatus(KMS_APP, INovaAppRegistry.AppStatus.INACTIVE);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.AppNotActive.selector, KMS_APP));
        platform.registerInstance(KMS_APP, 1, alice, "", PUBKEY, proof);
    }

    function test_AnActiveWalletIsNotTaken() public {
        register(alice);
        bytes memory proof = proofOf(alice);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.WalletInUse.selector, alice));
        platform.registerInstance(KMS_APP, 1, alice, "", PUBKEY, proof);
        platform.stopInstance(alice);
        assertEq(register(alice), 2);
        assertTrue(kms.isOperator(alice));
    }

    function test_StopAndFail() public {
        register(alice);
        register(bob);
        platform.stopInstance(alice);
        platform.failInstance(bob);
        assertTrue(
            platform.getInstanceByWallet(alice).status == INovaAppRegistry.InstanceStatus.STOPPED
        );
        assertTrue(
            platform.getInstanceByWallet(bob).status == INovaAppRegistry.InstanceStatus.FAILED
        );
        assertEq(platform.getActiveInstances(KMS_APP).length, 0);
        assertEq(kms.operatorCount(), 0);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.InstanceNotActive.selector, alice));
        platform.stopInstance(alice);
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.UnknownInstance.selector, stranger));
        platform.failInstance(stranger);
    }

    function test_AnOperatorStopsItsOwnInstance() public {
        bytes memory proof = proofOf(alice);
        vm.startPrank(bob);
        platform.registerInstance(KMS_APP, 1, alice, "", PUBKEY, proof);
        platform.stopInstance(alice);
        vm.stopPrank();
        assertFalse(kms.isOperator(alice));
    }

    function test_AppsWithoutContractAreNotCalledBack() public {
        uint256 id = platform.createApp(address(0), "plain", address(0));
        platform.enrollVersion(id, "1", MEASUREMENT, "image");
        platform.registerInstance(id, 1, alice, "", PUBKEY, "");
        platform.stopInstance(alice);
        assertEq(kms.operatorCount(), 0);
    }

    function test_TeePubkeyCanBeChangedForTests() public {
        register(alice);
        platform.setTeePubkey(alice, hex"1234");
        assertEq(keccak256(platform.getInstanceByWallet(alice).teePubkey), keccak256(hex"1234"));
        vm.expectRevert(abi.encodeWithSelector(NovaAppRegistry.UnknownInstance.selector, bob));
        platform.setTeePubkey(bob, "");
    }

    // ---- Events ----

    function test_AppEvents() public {
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.AppCreated(1, address(this), bob);
        platform.createApp(bob, "a", alice);
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.AppStatusChanged(1, INovaAppRegistry.AppStatus.INACTIVE);
        platform.setAppStatus(1, INovaAppRegistry.AppStatus.INACTIVE);
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.DappContractChanged(1, stranger);
        platform.setDappContract(1, stranger);
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.VerifierChanged(1, address(verifier));
        platform.setVerifier(1, verifier);
    }

    function test_VersionEvents() public {
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.VersionEnrolled(KMS_APP, 2, MEASUREMENT);
        platform.enrollVersion(KMS_APP, "2", MEASUREMENT, "image:2");
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.VersionStatusChanged(
            KMS_APP, 2, INovaAppRegistry.VersionStatus.DEPRECATED
        );
        platform.deprecateVersion(KMS_APP, 2);
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.VersionStatusChanged(
            KMS_APP, 2, INovaAppRegistry.VersionStatus.REVOKED
        );
        platform.revokeVersion(KMS_APP, 2);
    }

    function test_InstanceEvents() public {
        register(alice);
        register(bob);
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.TeePubkeyChanged(1, hex"1234");
        platform.setTeePubkey(alice, hex"1234");
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.InstanceStatusChanged(
            1, alice, INovaAppRegistry.InstanceStatus.STOPPED
        );
        platform.stopInstance(alice);
        vm.expectEmit(address(platform));
        emit NovaAppRegistry.InstanceStatusChanged(2, bob, INovaAppRegistry.InstanceStatus.FAILED);
        platform.failInstance(bob);
    }

    // ---- Any input ----

    function testFuzz_AProofIsForItsWalletKeyAndMeasurement(
        address wallet,
        bytes memory pubkey,
        bytes32 measurement,
        bytes memory junk
    ) public view {
        vm.assume(wallet != address(0));
        bytes memory proof =
            abi.encodePacked(keccak256(abi.encode(measurement, wallet, keccak256(pubkey))));
        assertTrue(verifier.verify(measurement, wallet, pubkey, proof));
        assertFalse(verifier.verify(~measurement, wallet, pubkey, proof));
        assertFalse(verifier.verify(measurement, address(~uint160(wallet)), pubkey, proof));
        assertFalse(verifier.verify(measurement, wallet, abi.encodePacked(pubkey, "x"), proof));
        assertFalse(verifier.verify(measurement, wallet, pubkey, abi.encodePacked(proof, "x")));
        assertFalse(verifier.verify(measurement, wallet, pubkey, junk));
    }

    function testFuzz_AnInstanceIsReadBackAsRegistered(
        address wallet,
        string memory url,
        bytes memory pubkey
    ) public {
        vm.assume(wallet != address(0));
        uint256 id = platform.createApp(address(0), "plain", address(0));
        platform.enrollVersion(id, "1", MEASUREMENT, "image");
        platform.registerInstance(id, 1, wallet, url, pubkey, "");
        INovaAppRegistry.RuntimeInstance memory instance = platform.getInstanceByWallet(wallet);
        assertEq(instance.appId, id);
        assertEq(instance.teeWalletAddress, wallet);
        assertEq(keccak256(bytes(instance.instanceUrl)), keccak256(bytes(url)));
        assertEq(keccak256(instance.teePubkey), keccak256(pubkey));
        assertEq(platform.getActiveInstances(id).length, 1);
    }
}
