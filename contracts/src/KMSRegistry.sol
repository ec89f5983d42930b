// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {INovaApp} from "./INovaApp.sol";
import {INovaAppRegistry} from "./INovaAppRegistry.sol";

/// @title Where a Nova KMS cluster agrees on its one master secret
/// @notice Holds the hash of the cluster's master secret: the first member to set it wins, and every
/// other member fetches the secret with that hash. Also keeps the set of operators, for audits; nodes
/// find each other through NovaAppRegistry. Not upgradeable.
contract KMSRegistry is INovaApp, Ownable2Step {
    using EnumerableSet for EnumerableSet.AddressSet;

    /// @notice The platform's registry: the only caller of addOperator and removeOperator, and the
    /// source of truth about who is a member.
    INovaAppRegistry public novaAppRegistry;

    /// @notice The KMS's own app id; 0 until it is set.
    uint256 public kmsAppId;

    /// @notice keccak256 of the cluster's master secret; zero while there is none.
    bytes32 public masterSecretHash;

    EnumerableSet.AddressSet private operators;

    /// @notice The registry was set; previous is zero at deployment.
    event NovaAppRegistryChanged(address indexed previous, address indexed current);
    /// @notice The KMS's app id was set, for good.
    event KmsAppIdSet(uint256 indexed appId);
    /// @notice An instance of the KMS was registered.
    event OperatorAdded(
        address indexed teeWallet, uint256 indexed appId, uint256 versionId, uint256 instanceId
    );
    /// @notice An instance of the KMS stopped or failed.
    event OperatorRemoved(
        address indexed teeWallet, uint256 indexed appId, uint256 versionId, uint256 instanceId
    );
    /// @notice A member set the hash while it was zero.
    event MasterSecretHashSet(bytes32 indexed hash, address indexed setBy);
    /// @notice The owner reset the hash, which may have been zero already.
    event MasterSecretHashReset(bytes32 indexed previous);

    /// @notice An address must not be zero.
    error ZeroAddress();
    /// @notice An app id must not be zero.
    error ZeroAppId();
    /// @notice The KMS's app id is set once and for all.
    error KmsAppIdAlreadySet(uint256 appId);
    /// @notice The owner has not set the KMS's app id yet.
    error KmsAppIdNotSet();
    /// @notice Only the platform's registry may call this.
    error NotNovaAppRegistry(address caller);
    /// @notice The instance belongs to another app than the KMS.
    error OtherApp(uint256 appId, uint256 kmsAppId);
    /// @notice The hash must not be zero, which means that there is none.
    error ZeroHash();
    /// @notice Another member was first, or the hash was not reset.
    error MasterSecretHashAlreadySet(bytes32 hash);
    /// @notice The caller's wallet has no ACTIVE instance.
    error InstanceNotActive(address caller);
    /// @notice The caller's instance runs a version that is not ENROLLED.
    error VersionNotEnrolled(address caller, uint256 versionId);
    /// @notice The contract must keep an owner.
    error OwnerRequired();

    modifier onlyNovaAppRegistry() {
        if (msg.sender != address(novaAppRegistry)) revert NotNovaAppRegistry(msg.sender);
        _;
    }

    /// @param registry NovaAppRegistry. The deployer becomes the owner.
    constructor(address registry) Ownable(msg.sender) {
        _setNovaAppRegistry(registry);
    }

    /// @notice Points to another NovaAppRegistry. Only the owner.
    function setNovaAppRegistry(address registry) external onlyOwner {
        _setNovaAppRegistry(registry);
    }

    /// @notice Sets the KMS's app id, once and for all. Only the owner.
    function setKmsAppId(uint256 appId) external onlyOwner {
        if (appId == 0) revert ZeroAppId();
        if (kmsAppId != 0) revert KmsAppIdAlreadySet(kmsAppId);
        kmsAppId = appId;
        emit KmsAppIdSet(appId);
    }

    /// @notice Forgets the hash, so that a member can set it again. Only the owner. Nodes that hold
    /// the secret keep it and set the same hash again.
    function resetMasterSecretHash() external onlyOwner {
        bytes32 previous = masterSecretHash;
        masterSecretHash = bytes32(0);
        emit MasterSecretHashReset(previous);
    }

    /// @notice Sets the hash while it is zero. Only for a wallet whose instance is ACTIVE under the
    /// KMS's app, on an ENROLLED version. The first transaction in a block wins; others revert.
    function setMasterSecretHash(bytes32 hash) external {
        if (hash == bytes32(0)) revert ZeroHash();
        if (masterSecretHash != bytes32(0)) revert MasterSecretHashAlreadySet(masterSecretHash);
        _requireMember(msg.sender);
        masterSecretHash = hash;
        emit MasterSecretHashSet(hash, msg.sender);
    }

    /// @inheritdoc INovaApp
    /// @dev Adding twice changes nothing.
    function addOperator(address teeWallet, uint256 appId, uint256 versionId, uint256 instanceId)
        external
        onlyNovaAppRegistry
    {
        _requireKmsApp(appId);
        if (teeWallet == address(0)) revert ZeroAddress();
        if (operators.add(teeWallet)) {
            emit OperatorAdded(teeWallet, appId, versionId, instanceId);
        }
    }

    /// @inheritdoc INovaApp
    /// @dev Removing an absent one changes nothing.
    function removeOperator(address teeWallet, uint256 appId, uint256 versionId, uint256 instanceId)
        external
        onlyNovaAppRegistry
    {
        _requireKmsApp(appId);
        if (operators.remove(teeWallet)) {
            emit OperatorRemoved(teeWallet, appId, versionId, instanceId);
        }
    }

    /// @notice A contract without an owner could never reset the hash: refused.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerRequired();
    }

    /// @notice The owner, under the name that earlier deployments gave it.
    // forge-lint: disable-next-line(mixed-case-function)
    function OWNER() external view returns (address) {
        return owner();
    }

    /// @notice Whether an ACTIVE instance of the KMS has this wallet, as the registry told.
    function isOperator(address teeWallet) external view returns (bool) {
        return operators.contains(teeWallet);
    }

    /// @notice How many operators there are.
    function operatorCount() external view returns (uint256) {
        return operators.length();
    }

    /// @notice In no particular order; reverts when index is not below operatorCount().
    function operatorAt(uint256 index) external view returns (address) {
        return operators.at(index);
    }

    /// @notice Every operator's wallet, in no particular order.
    function getOperators() external view returns (address[] memory) {
        return operators.values();
    }

    function _setNovaAppRegistry(address registry) private {
        if (registry == address(0)) revert ZeroAddress();
        emit NovaAppRegistryChanged(address(novaAppRegistry), registry);
        novaAppRegistry = INovaAppRegistry(registry);
    }

    function _requireKmsApp(uint256 appId) private view {
        if (kmsAppId == 0) revert KmsAppIdNotSet();
        if (appId != kmsAppId) revert OtherApp(appId, kmsAppId);
    }

    function _requireMember(address wallet) private view {
        INovaAppRegistry.RuntimeInstance memory instance =
            novaAppRegistry.getInstanceByWallet(wallet);
        if (instance.id == 0 || instance.teeWalletAddress != wallet) {
            revert InstanceNotActive(wallet);
        }
        _requireKmsApp(instance.appId);
        if (instance.status != INovaAppRegistry.InstanceStatus.ACTIVE) {
            revert InstanceNotActive(wallet);
        }
        INovaAppRegistry.AppVersion memory version =
            novaAppRegistry.getVersion(instance.appId, instance.versionId);
        if (version.id == 0 || version.status != INovaAppRegistry.VersionStatus.ENROLLED) {
            revert VersionNotEnrolled(wallet, instance.versionId);
        }
    }
}
