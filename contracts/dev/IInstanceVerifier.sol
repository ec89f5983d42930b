// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Checks the proof that an instance runs the code it says
/// @notice On the platform this is a zero-knowledge proof of a Nitro attestation.
interface IInstanceVerifier {
    /// @return Whether proof shows that an enclave measured as codeMeasurement holds teeWallet and
    /// teePubkey.
    function verify(
        bytes32 codeMeasurement,
        address teeWallet,
        bytes calldata teePubkey,
        bytes calldata proof
    ) external view returns (bool);
}
