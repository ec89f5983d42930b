// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What a Nova KMS cluster reads from the platform's registry of apps
/// @notice Field and enum order are the platform's: they are the ABI.
interface INovaAppRegistry {
    enum AppStatus {
        ACTIVE,
        INACTIVE,
        REVOKED
    }

    enum VersionStatus {
        ENROLLED,
        DEPRECATED,
        REVOKED
    }

    enum InstanceStatus {
        ACTIVE,
        STOPPED,
        FAILED
    }

    struct App {
        uint256 id;
        address owner;
        bytes32 teeArch;
        address dappContract;
        string metadataUri;
        uint256 latestVersionId;
        uint256 createdAt;
        AppStatus status;
        address appWallet;
    }

    struct AppVersion {
        uint256 id;
        string versionName;
        bytes32 codeMeasurement;
        string imageUri;
        string auditUrl;
        string auditHash;
        string githubRunId;
        VersionStatus status;
        uint256 enrolledAt;
        address enrolledBy;
    }

    struct RuntimeInstance {
        uint256 id;
        uint256 appId;
        uint256 versionId;
        address operator;
        string instanceUrl;
        bytes teePubkey;
        address teeWalletAddress;
        bool zkVerified;
        InstanceStatus status;
        uint256 registeredAt;
    }

    /// @notice The app; its id is 0 when it does not exist.
    function getApp(uint256 appId) external view returns (App memory);

    /// @notice A version of an app; its id is 0 when it does not exist.
    function getVersion(uint256 appId, uint256 versionId) external view returns (AppVersion memory);

    /// @notice The instance with this TEE wallet; its id is 0 when there is none.
    function getInstanceByWallet(address wallet) external view returns (RuntimeInstance memory);

    /// @notice The TEE wallets of the app's ACTIVE instances.
    function getActiveInstances(uint256 appId) external view returns (address[] memory);
}
