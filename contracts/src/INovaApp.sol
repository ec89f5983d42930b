// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What the platform's registry calls on an app's contract
interface INovaApp {
    /// @notice An instance of the app was registered.
    function addOperator(address teeWallet, uint256 appId, uint256 versionId, uint256 instanceId)
        external;

    /// @notice An instance of the app stopped or failed.
    function removeOperator(address teeWallet, uint256 appId, uint256 versionId, uint256 instanceId)
        external;
}
