// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DevVerifier} from "../dev/DevVerifier.sol";
import {NovaAppRegistry} from "../dev/NovaAppRegistry.sol";
import {KMSRegistry} from "../src/KMSRegistry.sol";
import {Test} from "./Vm.sol";

/// @title A platform with the KMS app, one enrolled version and its verifier
abstract contract Fixture is Test {
    uint256 internal constant KMS_APP = 49;
    bytes32 internal constant MEASUREMENT = keccak256("nova-kms 1");
    bytes internal constant PUBKEY = hex"3076";

    NovaAppRegistry internal platform;
    KMSRegistry internal kms;
    DevVerifier internal verifier;

    address internal alice = address(0xa11ce);
    address internal bob = address(0xb0b);
    address internal stranger = address(0x57a);

    function setUp() public virtual {
        platform = new NovaAppRegistry();
        verifier = new DevVerifier();
        kms = new KMSRegistry(address(platform));
        kms.setKmsAppId(KMS_APP);
        platform.createAppWithId(KMS_APP, address(kms), "kms", address(0));
        platform.setVerifier(KMS_APP, verifier);
        platform.enrollVersion(KMS_APP, "1.0.0", MEASUREMENT, "image");
    }

    function proofOf(address wallet) internal pure returns (bytes memory) {
        return abi.encodePacked(keccak256(abi.encode(MEASUREMENT, wallet, keccak256(PUBKEY))));
    }

    function register(address wallet) internal returns (uint256) {
        return platform.registerInstance(
            KMS_APP, 1, wallet, "https://kms.example:8443", PUBKEY, proofOf(wallet)
        );
    }
}
