// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IInstanceVerifier} from "./IInstanceVerifier.sol";

/// @title A verifier for development: anybody can make its proofs
/// @notice The proof is keccak256(abi.encode(codeMeasurement, teeWallet, keccak256(teePubkey))), so
/// that a wrong one is refused and a right one needs no enclave.
contract DevVerifier is IInstanceVerifier {
    /// @inheritdoc IInstanceVerifier
    function verify(
        bytes32 codeMeasurement,
        address teeWallet,
        bytes calldata teePubkey,
        bytes calldata proof
    ) external pure returns (bool) {
        bytes32 wanted = keccak256(abi.encode(codeMeasurement, teeWallet, keccak256(teePubkey)));
        return proof.length == 32 && bytes32(proof) == wanted;
    }
}
