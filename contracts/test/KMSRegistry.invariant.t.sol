// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {NovaAppRegistry} from "../dev/NovaAppRegistry.sol";
import {KMSRegistry} from "../src/KMSRegistry.sol";
import {Fixture} from "./Fixture.sol";

/// @dev Does to the cluster what operators, owners and members do, in any order.
contract Actor is Fixture {
    uint256 public setsSinceReset;
    uint256 public resets;
    address[] private wallets;

    constructor() {
        setUp();
        for (uint160 i = 1; i <= 6; i++) {
            wallets.push(address(0x1000 + i));
        }
    }

    function getPlatform() external view returns (NovaAppRegistry) {
        return platform;
    }

    function getKms() external view returns (KMSRegistry) {
        return kms;
    }

    function registerOne(uint256 choice) external {
        register(wallets[choice % wallets.length]);
    }

    function stopOne(uint256 choice) external {
        platform.stopInstance(wallets[choice % wallets.length]);
    }

    function failOne(uint256 choice) external {
        platform.failInstance(wallets[choice % wallets.length]);
    }

    function setHash(uint256 choice, bytes32 hash) external {
        vm.prank(wallets[choice % wallets.length]);
        kms.setMasterSecretHash(hash);
        setsSinceReset++;
    }

    function resetHash() external {
        kms.resetMasterSecretHash();
        setsSinceReset = 0;
        resets++;
    }
}

contract KMSRegistryInvariantTest is Fixture {
    Actor private actor;

    function setUp() public override {
        actor = new Actor();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function excludeSelectors() external view returns (FuzzSelector[] memory excluded) {
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = Fixture.setUp.selector;
        excluded = new FuzzSelector[](1);
        excluded[0] = FuzzSelector(address(actor), selectors);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function invariant_OperatorsAreTheActiveInstances() public view {
        address[] memory active = actor.getPlatform().getActiveInstances(KMS_APP);
        KMSRegistry registry = actor.getKms();
        assertEq(registry.operatorCount(), active.length);
        for (uint256 i = 0; i < active.length; i++) {
            assertTrue(registry.isOperator(active[i]));
        }
    }

    function invariant_HashIsSetAtMostOnceBetweenResets() public view {
        assertTrue(actor.setsSinceReset() <= 1);
        assertTrue((actor.setsSinceReset() == 1) == (actor.getKms().masterSecretHash() != 0));
    }
}
