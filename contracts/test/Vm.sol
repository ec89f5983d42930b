// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The cheat codes of Foundry's EVM that these tests use
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function expectRevert(bytes calldata data) external;
    function expectRevert() external;
    function expectEmit(address emitter) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function assume(bool condition) external pure;
    function warp(uint256 timestamp) external;
}

/// @title What a test contract needs: the cheat codes and assertions that say what differs
abstract contract Test {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error NotEqualUint(uint256 actual, uint256 wanted);
    error NotEqualAddress(address actual, address wanted);
    error NotEqualBytes32(bytes32 actual, bytes32 wanted);
    error NotTrue();

    function assertEq(uint256 actual, uint256 wanted) internal pure {
        if (actual != wanted) revert NotEqualUint(actual, wanted);
    }

    function assertEq(address actual, address wanted) internal pure {
        if (actual != wanted) revert NotEqualAddress(actual, wanted);
    }

    function assertEq(bytes32 actual, bytes32 wanted) internal pure {
        if (actual != wanted) revert NotEqualBytes32(actual, wanted);
    }

    function assertTrue(bool condition) internal pure {
        if (!condition) revert NotTrue();
    }

    function assertFalse(bool condition) internal pure {
        if (condition) revert NotTrue();
    }
}
