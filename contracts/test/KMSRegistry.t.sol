// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {INovaAppRegistry} from "../src/INovaAppRegistry.sol";
import {KMSRegistry} from "../src/KMSRegistry.sol";
import {Fixture} from "./Fixture.sol";

contract KMSRegistryTest is Fixture {
    bytes32 private constant HASH = keccak256("secret");

    // ---- Deployment and the owner's settings ----

    function test_DeploymentState() public {
        KMSRegistry fresh = new KMSRegistry(address(platform));
        assertEq(fresh.OWNER(), address(this));
        assertEq(fresh.owner(), address(this));
        assertEq(fresh.pendingOwner(), address(0));
        assertEq(address(fresh.novaAppRegistry()), address(platform));
        assertEq(fresh.kmsAppId(), 0);
        assertEq(fresh.operatorCount(), 0);
        assertEq(fresh.masterSecretHash(), bytes32(0));
    }

    function test_DeploymentRefusesZeroRegistry() public {
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.ZeroAddress.selector));
        new KMSRegistry(address(0));
    }

    function test_SetNovaAppRegistry() public {
        vm.expectEmit(address(kms));
        emit KMSRegistry.NovaAppRegistryChanged(address(platform), stranger);
        kms.setNovaAppRegistry(stranger);
        assertEq(address(kms.novaAppRegistry()), stranger);
    }

    function test_SetNovaAppRegistryRefusesZero() public {
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.ZeroAddress.selector));
        kms.setNovaAppRegistry(address(0));
    }

    function test_SetKmsAppIdOnce() public {
        KMSRegistry fresh = new KMSRegistry(address(platform));
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.ZeroAppId.selector));
        fresh.setKmsAppId(0);
        vm.expectEmit(address(fresh));
        emit KMSRegistry.KmsAppIdSet(7);
        fresh.setKmsAppId(7);
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.KmsAppIdAlreadySet.selector, 7));
        fresh.setKmsAppId(7);
    }

    function test_OnlyOwner() public {
        bytes memory refusal =
            abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, stranger);
        vm.startPrank(stranger);
        vm.expectRevert(refusal);
        kms.setNovaAppRegistry(stranger);
        vm.expectRevert(refusal);
        kms.setKmsAppId(1);
        vm.expectRevert(refusal);
        kms.resetMasterSecretHash();
        vm.expectRevert(refusal);
        kms.transferOwnership(stranger);
        vm.expectRevert(refusal);
        kms.renounceOwnership();
        vm.stopPrank();
    }

    function test_OwnershipMovesInTwoSteps() public {
        kms.transferOwnership(alice);
        assertEq(kms.owner(), address(this));
        assertEq(kms.pendingOwner(), alice);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, bob));
        vm.prank(bob);
        kms.acceptOwnership();
        vm.prank(alice);
        kms.acceptOwnership();
        assertEq(kms.OWNER(), alice);
        assertEq(kms.pendingOwner(), address(0));
    }

    function test_OwnershipCannotBeRenounced() public {
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.OwnerRequired.selector));
        kms.renounceOwnership();
        assertEq(kms.owner(), address(this));
    }

    // ---- Operators ----

    function test_OperatorsFollowTheRegistry() public {
        vm.expectEmit(address(kms));
        emit KMSRegistry.OperatorAdded(alice, KMS_APP, 1, 1);
        register(alice);
        register(bob);
        assertEq(kms.operatorCount(), 2);
        assertTrue(kms.isOperator(alice));
        assertEq(kms.operatorAt(0), alice);
        assertEq(kms.getOperators()[1], bob);
        vm.expectEmit(address(kms));
        emit KMSRegistry.OperatorRemoved(alice, KMS_APP, 1, 1);
        platform.stopInstance(alice);
        assertFalse(kms.isOperator(alice));
        assertEq(kms.operatorCount(), 1);
        vm.expectRevert();
        kms.operatorAt(1);
    }

    function test_AddAndRemoveAreIdempotent() public {
        vm.startPrank(address(platform));
        kms.addOperator(alice, KMS_APP, 1, 1);
        vm.recordLogs();
        kms.addOperator(alice, KMS_APP, 1, 2);
        kms.removeOperator(bob, KMS_APP, 1, 3);
        vm.stopPrank();
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(kms.operatorCount(), 1);
    }

    function test_OnlyTheRegistryChangesOperators() public {
        bytes memory refusal =
            abi.encodeWithSelector(KMSRegistry.NotNovaAppRegistry.selector, address(this));
        vm.expectRevert(refusal);
        kms.addOperator(alice, KMS_APP, 1, 1);
        vm.expectRevert(refusal);
        kms.removeOperator(alice, KMS_APP, 1, 1);
    }

    function test_OperatorsOfOtherAppsAreRefused() public {
        vm.startPrank(address(platform));
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.OtherApp.selector, 50, KMS_APP));
        kms.addOperator(alice, 50, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.OtherApp.selector, 50, KMS_APP));
        kms.removeOperator(alice, 50, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.ZeroAddress.selector));
        kms.addOperator(address(0), KMS_APP, 1, 1);
        vm.stopPrank();
    }

    function test_OperatorsNeedTheAppId() public {
        KMSRegistry fresh = new KMSRegistry(address(platform));
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.KmsAppIdNotSet.selector));
        vm.prank(address(platform));
        fresh.addOperator(alice, KMS_APP, 1, 1);
    }

    // ---- The master secret's hash ----

    function test_FirstHashWins() public {
        register(alice);
        register(bob);
        vm.expectEmit(address(kms));
        emit KMSRegistry.MasterSecretHashSet(HASH, alice);
        vm.prank(alice);
        kms.setMasterSecretHash(HASH);
        assertEq(kms.masterSecretHash(), HASH);
        vm.expectRevert(
            abi.encodeWithSelector(KMSRegistry.MasterSecretHashAlreadySet.selector, HASH)
        );
        vm.prank(bob);
        kms.setMasterSecretHash(keccak256("other"));
        assertEq(kms.masterSecretHash(), HASH);
    }

    function test_ResetLetsItBeSetAgain() public {
        register(alice);
        vm.prank(alice);
        kms.setMasterSecretHash(HASH);
        vm.expectEmit(address(kms));
        emit KMSRegistry.MasterSecretHashReset(HASH);
        kms.resetMasterSecretHash();
        assertEq(kms.masterSecretHash(), bytes32(0));
        vm.prank(alice);
        kms.setMasterSecretHash(HASH);
        assertEq(kms.masterSecretHash(), HASH);
    }

    function test_ZeroHashIsRefused() public {
        register(alice);
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.ZeroHash.selector));
        vm.prank(alice);
        kms.setMasterSecretHash(bytes32(0));
    }

    function expectHashRefused(address wallet, bytes memory refusal) private {
        vm.expectRevert(refusal);
        vm.prank(wallet);
        kms.setMasterSecretHash(HASH);
        assertEq(kms.masterSecretHash(), bytes32(0));
    }

    function test_StrangersCannotSetTheHash() public {
        expectHashRefused(
            stranger, abi.encodeWithSelector(KMSRegistry.InstanceNotActive.selector, stranger)
        );
    }

    function test_StoppedAndFailedInstancesCannotSetTheHash() public {
        register(alice);
        register(bob);
        platform.stopInstance(alice);
        platform.failInstance(bob);
        expectHashRefused(
            alice, abi.encodeWithSelector(KMSRegistry.InstanceNotActive.selector, alice)
        );
        expectHashRefused(bob, abi.encodeWithSelector(KMSRegistry.InstanceNotActive.selector, bob));
    }

    function test_DeprecatedAndRevokedVersionsCannotSetTheHash() public {
        register(alice);
        bytes memory refusal =
            abi.encodeWithSelector(KMSRegistry.VersionNotEnrolled.selector, alice, 1);
        platform.deprecateVersion(KMS_APP, 1);
        expectHashRefused(alice, refusal);
        platform.revokeVersion(KMS_APP, 1);
        expectHashRefused(alice, refusal);
    }

    function test_InstancesOfOtherAppsCannotSetTheHash() public {
        uint256 other = platform.createApp(address(0), "other", address(0));
        platform.enrollVersion(other, "1", MEASUREMENT, "image");
        platform.registerInstance(other, 1, alice, "https://a.example", PUBKEY, "");
        expectHashRefused(
            alice, abi.encodeWithSelector(KMSRegistry.OtherApp.selector, other, KMS_APP)
        );
    }

    function testFuzz_OnlyMembersSetTheHash(address wallet, bytes32 hash) public {
        vm.assume(wallet != address(0) && hash != bytes32(0) && wallet != address(this));
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.InstanceNotActive.selector, wallet));
        vm.prank(wallet);
        kms.setMasterSecretHash(hash);
        register(wallet);
        vm.prank(wallet);
        kms.setMasterSecretHash(hash);
        assertEq(kms.masterSecretHash(), hash);
    }

    function testFuzz_AppIdIsSetOnce(uint256 first, uint256 second) public {
        vm.assume(first != 0 && second != 0);
        KMSRegistry fresh = new KMSRegistry(address(platform));
        fresh.setKmsAppId(first);
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.KmsAppIdAlreadySet.selector, first));
        fresh.setKmsAppId(second);
        assertEq(fresh.kmsAppId(), first);
    }

    // ---- A registry that lies ----

    function test_InstanceOfAnotherWalletIsRefused() public {
        kms.setNovaAppRegistry(address(new LyingRegistry(bob)));
        vm.expectRevert(abi.encodeWithSelector(KMSRegistry.InstanceNotActive.selector, alice));
        vm.prank(alice);
        kms.setMasterSecretHash(HASH);
    }
}

/// @dev Answers every question about a wallet with another one's instance.
contract LyingRegistry {
    address private immutable wallet;

    constructor(address wallet_) {
        wallet = wallet_;
    }

    function getInstanceByWallet(address)
        external
        view
        returns (INovaAppRegistry.RuntimeInstance memory instance)
    {
        instance.id = 1;
        instance.appId = 49;
        instance.versionId = 1;
        instance.teeWalletAddress = wallet;
    }
}
