// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";

/// @title Who may do what in a settlement.
/// @notice The administrator hands out the roles. An operator can never be the meter authority
/// as well: what is settled always took two keys.
abstract contract Roles is AccessControl {
    /// @notice Registers participants and replaces their meters.
    bytes32 public constant REGISTRAR_ROLE = keccak256("REGISTRAR_ROLE");
    /// @notice Submits the batches of cleared trades.
    bytes32 public constant OPERATOR_ROLE = keccak256("OPERATOR_ROLE");
    /// @notice Commits the readings of the meters.
    bytes32 public constant METER_AUTHORITY_ROLE = keccak256("METER_AUTHORITY_ROLE");
    /// @notice Pauses everything but withdrawals, and resumes.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    /// @notice `account` would hold both the operator's and the meter authority's role.
    error RolesConflict(address account);

    /// @dev Refuses the one pair of roles that must stay in different hands.
    function _grantRole(bytes32 role, address account) internal virtual override returns (bool) {
        if (
            (role == OPERATOR_ROLE && hasRole(METER_AUTHORITY_ROLE, account))
                || (role == METER_AUTHORITY_ROLE && hasRole(OPERATOR_ROLE, account))
        ) revert RolesConflict(account);
        return super._grantRole(role, account);
    }
}
