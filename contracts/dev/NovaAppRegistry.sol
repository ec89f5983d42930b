// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {INovaApp} from "../src/INovaApp.sol";
import {INovaAppRegistry} from "../src/INovaAppRegistry.sol";
import {IInstanceVerifier} from "./IInstanceVerifier.sol";

/// @title A local stand-in for the platform's registry, for development and tests
/// @notice The functions, structs and enums that Nova KMS reads are the platform's. The ones that
/// change something are what a developer needs to play the platform's, an app owner's and an
/// operator's part. Never deploy it where it is trusted.
contract NovaAppRegistry is INovaAppRegistry {
    using EnumerableSet for EnumerableSet.AddressSet;

    /// @notice The platform's administrator: may do what any app's owner may, and fail instances.
    address public immutable admin;

    /// @notice The id that the next app gets from createApp.
    uint256 public nextAppId = 1;

    /// @notice The id that the next instance gets.
    uint256 public nextInstanceId = 1;

    mapping(uint256 appId => App) private apps;
    mapping(uint256 appId => mapping(uint256 versionId => AppVersion)) private versions;
    mapping(uint256 appId => IInstanceVerifier) private verifiers;
    mapping(address wallet => RuntimeInstance) private instances;
    mapping(uint256 appId => EnumerableSet.AddressSet) private activeWallets;

    /// @notice An app was created; its owner is the caller.
    event AppCreated(uint256 indexed appId, address indexed owner, address dappContract);
    /// @notice An app's status was set.
    event AppStatusChanged(uint256 indexed appId, AppStatus status);
    /// @notice The contract that is told of an app's instances was set.
    event DappContractChanged(uint256 indexed appId, address dappContract);
    /// @notice What checks an app's instances was set.
    event VerifierChanged(uint256 indexed appId, address verifier);
    /// @notice A version was enrolled.
    event VersionEnrolled(uint256 indexed appId, uint256 indexed versionId, bytes32 codeMeasurement);
    /// @notice A version was deprecated or revoked.
    event VersionStatusChanged(
        uint256 indexed appId, uint256 indexed versionId, VersionStatus status
    );
    /// @notice An instance was registered; zkVerified when a verifier accepted its proof.
    event InstanceRegistered(
        uint256 indexed instanceId, uint256 indexed appId, address indexed teeWallet, bool zkVerified
    );
    /// @notice An instance stopped or failed.
    event InstanceStatusChanged(
        uint256 indexed instanceId, address indexed teeWallet, InstanceStatus status
    );
    /// @notice A test changed a registered key.
    event TeePubkeyChanged(uint256 indexed instanceId, bytes teePubkey);

    /// @notice The caller is not who may do this.
    error NotAllowed(address caller);
    /// @notice The app id is taken.
    error AppExists(uint256 appId);
    /// @notice There is no such app.
    error UnknownApp(uint256 appId);
    /// @notice Only an ACTIVE app takes instances.
    error AppNotActive(uint256 appId);
    /// @notice The app has no such version.
    error UnknownVersion(uint256 appId, uint256 versionId);
    /// @notice Only an ENROLLED version takes instances.
    error VersionNotEnrolled(uint256 appId, uint256 versionId);
    /// @notice A revoked version stays revoked.
    error VersionIsRevoked(uint256 appId, uint256 versionId);
    /// @notice No instance was ever registered with this wallet.
    error UnknownInstance(address teeWallet);
    /// @notice The instance has stopped or failed already.
    error InstanceNotActive(address teeWallet);
    /// @notice An ACTIVE instance has this wallet.
    error WalletInUse(address teeWallet);
    /// @notice The app's verifier does not accept the proof.
    error BadProof(address teeWallet);
    /// @notice A wallet must not be zero.
    error ZeroAddress();
    /// @notice An app id must not be zero.
    error ZeroAppId();

    modifier onlyAppOwner(uint256 appId) {
        _requireAppOwner(appId);
        _;
    }

    /// @notice The deployer becomes the administrator.
    constructor() {
        admin = msg.sender;
    }

    /// @notice Creates an app owned by the caller, under the next free id.
    function createApp(address dappContract, string calldata metadataUri, address appWallet)
        external
        returns (uint256 appId)
    {
        while (apps[nextAppId].id != 0) {
            nextAppId++;
        }
        appId = nextAppId++;
        _createApp(appId, dappContract, metadataUri, appWallet);
    }

    /// @notice The same under an id of the caller's choice, to play an existing deployment.
    function createAppWithId(
        uint256 appId,
        address dappContract,
        string calldata metadataUri,
        address appWallet
    ) external {
        if (appId == 0) revert ZeroAppId();
        if (apps[appId].id != 0) revert AppExists(appId);
        _createApp(appId, dappContract, metadataUri, appWallet);
    }

    /// @notice Sets the contract that is told of the app's instances; zero: none.
    function setDappContract(uint256 appId, address dappContract) external onlyAppOwner(appId) {
        apps[appId].dappContract = dappContract;
        emit DappContractChanged(appId, dappContract);
    }

    /// @notice Sets what checks the app's instances; zero: they are registered unverified.
    function setVerifier(uint256 appId, IInstanceVerifier verifier) external onlyAppOwner(appId) {
        verifiers[appId] = verifier;
        emit VerifierChanged(appId, address(verifier));
    }

    /// @notice Sets the app's status; its instances are trusted only while it is ACTIVE.
    function setAppStatus(uint256 appId, AppStatus status) external onlyAppOwner(appId) {
        apps[appId].status = status;
        emit AppStatusChanged(appId, status);
    }

    /// @notice Enrolls a new version; ids count from 1 within an app.
    function enrollVersion(
        uint256 appId,
        string calldata versionName,
        bytes32 codeMeasurement,
        string calldata imageUri
    ) external onlyAppOwner(appId) returns (uint256 versionId) {
        versionId = ++apps[appId].latestVersionId;
        AppVersion storage version = versions[appId][versionId];
        version.id = versionId;
        version.versionName = versionName;
        version.codeMeasurement = codeMeasurement;
        version.imageUri = imageUri;
        version.enrolledAt = block.timestamp;
        version.enrolledBy = msg.sender;
        emit VersionEnrolled(appId, versionId, codeMeasurement);
    }

    /// @notice No new instances of the version; running ones go on.
    function deprecateVersion(uint256 appId, uint256 versionId) external onlyAppOwner(appId) {
        if (_version(appId, versionId).status == VersionStatus.REVOKED) {
            revert VersionIsRevoked(appId, versionId);
        }
        _setVersionStatus(appId, versionId, VersionStatus.DEPRECATED);
    }

    /// @notice Running instances of the version are not trusted any more.
    function revokeVersion(uint256 appId, uint256 versionId) external onlyAppOwner(appId) {
        _version(appId, versionId);
        _setVersionStatus(appId, versionId, VersionStatus.REVOKED);
    }

    /// @notice Registers the caller's enclave. With a verifier, proof must convince it, and the
    /// instance is zkVerified; without one it is registered unverified. A wallet that stopped or
    /// failed may register again.
    function registerInstance(
        uint256 appId,
        uint256 versionId,
        address teeWallet,
        string calldata instanceUrl,
        bytes calldata teePubkey,
        bytes calldata proof
    ) external returns (uint256 instanceId) {
        if (teeWallet == address(0)) revert ZeroAddress();
        if (_app(appId).status != AppStatus.ACTIVE) revert AppNotActive(appId);
        if (_version(appId, versionId).status != VersionStatus.ENROLLED) {
            revert VersionNotEnrolled(appId, versionId);
        }
        RuntimeInstance storage instance = instances[teeWallet];
        if (instance.id != 0 && instance.status == InstanceStatus.ACTIVE) {
            revert WalletInUse(teeWallet);
        }
        instanceId = nextInstanceId++;
        instance.id = instanceId;
        instance.appId = appId;
        instance.versionId = versionId;
        instance.operator = msg.sender;
        instance.instanceUrl = instanceUrl;
        instance.teePubkey = teePubkey;
        instance.teeWalletAddress = teeWallet;
        instance.zkVerified = _isVerified(appId, versionId, teeWallet, teePubkey, proof);
        instance.status = InstanceStatus.ACTIVE;
        instance.registeredAt = block.timestamp;
        activeWallets[appId].add(teeWallet);
        emit InstanceRegistered(instanceId, appId, teeWallet, instance.zkVerified);
        address dappContract = apps[appId].dappContract;
        if (dappContract != address(0)) {
            INovaApp(dappContract).addOperator(teeWallet, appId, versionId, instanceId);
        }
    }

    /// @notice Ends an instance in order. Its operator, the app's owner or the administrator.
    function stopInstance(address teeWallet) external {
        if (msg.sender != instances[teeWallet].operator) {
            _requireAppOwner(instances[teeWallet].appId);
        }
        _endInstance(teeWallet, InstanceStatus.STOPPED);
    }

    /// @notice Marks an instance as failed. Only the administrator.
    function failInstance(address teeWallet) external {
        if (msg.sender != admin) revert NotAllowed(msg.sender);
        _endInstance(teeWallet, InstanceStatus.FAILED);
    }

    /// @notice Changes a registered key, which the platform never does: for tests of what a node
    /// does when its own entry is not what it should be.
    function setTeePubkey(address teeWallet, bytes calldata teePubkey) external {
        if (msg.sender != admin) revert NotAllowed(msg.sender);
        RuntimeInstance storage instance = instances[teeWallet];
        if (instance.id == 0) revert UnknownInstance(teeWallet);
        instance.teePubkey = teePubkey;
        emit TeePubkeyChanged(instance.id, teePubkey);
    }

    /// @inheritdoc INovaAppRegistry
    function getApp(uint256 appId) external view returns (App memory) {
        return apps[appId];
    }

    /// @inheritdoc INovaAppRegistry
    function getVersion(uint256 appId, uint256 versionId)
        external
        view
        returns (AppVersion memory)
    {
        return versions[appId][versionId];
    }

    /// @inheritdoc INovaAppRegistry
    function getInstanceByWallet(address wallet) external view returns (RuntimeInstance memory) {
        return instances[wallet];
    }

    /// @inheritdoc INovaAppRegistry
    function getActiveInstances(uint256 appId) external view returns (address[] memory) {
        return activeWallets[appId].values();
    }

    function _createApp(
        uint256 appId,
        address dappContract,
        string calldata metadataUri,
        address appWallet
    ) private {
        App storage app = apps[appId];
        app.id = appId;
        app.owner = msg.sender;
        app.teeArch = "nitro";
        app.dappContract = dappContract;
        app.metadataUri = metadataUri;
        app.createdAt = block.timestamp;
        app.appWallet = appWallet;
        emit AppCreated(appId, msg.sender, dappContract);
    }

    function _setVersionStatus(uint256 appId, uint256 versionId, VersionStatus status) private {
        versions[appId][versionId].status = status;
        emit VersionStatusChanged(appId, versionId, status);
    }

    function _endInstance(address teeWallet, InstanceStatus status) private {
        RuntimeInstance storage instance = instances[teeWallet];
        if (instance.id == 0) revert UnknownInstance(teeWallet);
        if (instance.status != InstanceStatus.ACTIVE) revert InstanceNotActive(teeWallet);
        instance.status = status;
        activeWallets[instance.appId].remove(teeWallet);
        emit InstanceStatusChanged(instance.id, teeWallet, status);
        address dappContract = apps[instance.appId].dappContract;
        if (dappContract != address(0)) {
            INovaApp(dappContract).removeOperator(
                teeWallet, instance.appId, instance.versionId, instance.id
            );
        }
    }

    function _isVerified(
        uint256 appId,
        uint256 versionId,
        address teeWallet,
        bytes calldata teePubkey,
        bytes calldata proof
    ) private view returns (bool) {
        IInstanceVerifier verifier = verifiers[appId];
        if (address(verifier) == address(0)) return false;
        bytes32 codeMeasurement = versions[appId][versionId].codeMeasurement;
        if (!verifier.verify(codeMeasurement, teeWallet, teePubkey, proof)) {
            revert BadProof(teeWallet);
        }
        return true;
    }

    function _app(uint256 appId) private view returns (App storage app) {
        app = apps[appId];
        if (app.id == 0) revert UnknownApp(appId);
    }

    function _version(uint256 appId, uint256 versionId)
        private
        view
        returns (AppVersion storage version)
    {
        version = versions[appId][versionId];
        if (version.id == 0) revert UnknownVersion(appId, versionId);
    }

    function _requireAppOwner(uint256 appId) private view {
        if (msg.sender != _app(appId).owner && msg.sender != admin) revert NotAllowed(msg.sender);
    }
}
