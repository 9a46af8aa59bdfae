// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {State} from "./State.sol";

/// @title Participants, their meters and their groups (thesis 5.4).
/// @notice A participant has an id, an owner who may withdraw, and the address of its meter's
/// key. Ids are given in a row; a group is a range of ids whose trades settle together, and a
/// participant stays in its group for good.
/// @dev Owners and meters are kept as the code of data contracts, 40 bytes a participant: a
/// fifth of the gas of storage, and nothing that a node must rehash in each block. Later changes
/// are kept in mappings that are looked at first.
abstract contract Registry is State {
    /// @notice The account that takes or bears the difference where seller and buyer have
    /// different (locational) prices. It has an owner but no meter and no group.
    uint32 public constant NETWORK_ACCOUNT = type(uint32).max;

    /// @notice Most participants that one call registers: their data contract's code must stay
    /// below 24,576 bytes.
    uint256 public constant MAX_REGISTERED_AT_ONCE = 600;

    uint256 private constant _ACCOUNT_BYTES = 40;
    uint256 private constant _MAX_PARTICIPANTS = type(uint32).max - 1023;

    struct Group {
        uint32 first;
        uint32 size;
    }

    struct Chunk {
        address data;
        uint32 first;
        uint32 size;
    }

    mapping(uint32 group => Group) internal _groups;
    Chunk[] private _chunks;
    mapping(uint32 participant => address) private _newOwner;
    mapping(uint32 participant => address) private _newMeter;

    /// @notice Participants `first` to `first + size - 1` joined `group`; `data` holds them.
    event ParticipantsRegistered(uint32 indexed group, uint32 first, uint32 size, address data);
    /// @notice `owner` may withdraw from the account of `participant` from now on.
    event OwnerChanged(uint32 indexed participant, address owner);
    /// @notice `participant` is metered by the meter with the key of `meter` from now on.
    event MeterReplaced(uint32 indexed participant, address meter);

    /// @notice There is no such participant.
    error UnknownParticipant(uint32 participant);
    /// @notice Registered in one call are 1 to 600 participants of 40 bytes each.
    error MalformedAccounts(uint256 length);
    /// @notice The owner or the meter at `index` of the call is the zero address.
    error ZeroAccount(uint256 index);
    /// @notice Only the latest group can grow, since its ids are a range.
    error GroupClosed(uint32 group);
    /// @notice `caller` does not own the account of `participant`.
    error NotOwner(uint32 participant, address caller);
    /// @notice No more ids.
    error RegistryFull();

    constructor(address networkOwner) {
        _setOwner(NETWORK_ACCOUNT, networkOwner);
    }

    /// @notice Registers participants under the next free ids, in a new group or at the end of
    /// the latest one. Readings committed before a group grew do not cover the new members.
    /// @param group Group that they join.
    /// @param accounts Per participant 20 bytes of its owner and 20 of its meter.
    /// @return first Id of the first of them.
    function register(uint32 group, bytes calldata accounts)
        external
        onlyRole(REGISTRAR_ROLE)
        whenNotPaused
        returns (uint32 first)
    {
        uint256 size = accounts.length / _ACCOUNT_BYTES;
        if (accounts.length % _ACCOUNT_BYTES != 0 || size == 0 || size > MAX_REGISTERED_AT_ONCE) {
            revert MalformedAccounts(accounts.length);
        }
        for (uint256 i; i < size; ++i) {
            uint256 cursor = i * _ACCOUNT_BYTES;
            if (
                bytes20(accounts[cursor:cursor + 20]) == 0
                    || bytes20(accounts[cursor + 20:cursor + 40]) == 0
            ) revert ZeroAccount(i);
        }
        first = _counters.participants;
        if (first + size > _MAX_PARTICIPANTS) revert RegistryFull();
        Group storage g = _groups[group];
        if (g.size == 0) g.first = first;
        else if (g.first + g.size != first) revert GroupClosed(group);
        // Both fit: no more than `_MAX_PARTICIPANTS` ids exist.
        g.size += uint32(size);
        _counters.participants = first + uint32(size);
        address data = _store(accounts);
        _chunks.push(Chunk(data, first, uint32(size)));
        emit ParticipantsRegistered(group, first, uint32(size), data);
    }

    /// @notice Replaces a participant's meter.
    function replaceMeter(uint32 participant, address meter)
        external
        onlyRole(REGISTRAR_ROLE)
        whenNotPaused
    {
        if (participant >= _counters.participants) {
            revert UnknownParticipant(participant);
        }
        if (meter == address(0)) revert ZeroAccount(0);
        _newMeter[participant] = meter;
        emit MeterReplaced(participant, meter);
    }

    /// @notice Hands an account to another owner. Only its owner can, also while paused.
    function changeOwner(uint32 participant, address owner) external {
        if (msg.sender != ownerOf(participant)) revert NotOwner(participant, msg.sender);
        _setOwner(participant, owner);
    }

    /// @notice Who may withdraw from a participant's account, or the network account.
    function ownerOf(uint32 participant) public view returns (address) {
        address changed = _newOwner[participant];
        return changed != address(0) ? changed : _registered(participant, 0);
    }

    /// @notice Address of the key of a participant's meter.
    function meterOf(uint32 participant) external view returns (address) {
        address changed = _newMeter[participant];
        return changed != address(0) ? changed : _registered(participant, 20);
    }

    /// @notice The ids of a group: `first` to `first + size - 1`; no group has size 0.
    function groupOf(uint32 group) external view returns (uint32 first, uint32 size) {
        Group storage g = _groups[group];
        return (g.first, g.size);
    }

    function _setOwner(uint32 participant, address owner) private {
        if (owner == address(0)) revert ZeroAccount(0);
        _newOwner[participant] = owner;
        emit OwnerChanged(participant, owner);
    }

    /// @dev An address as registered, found by bisection: at most 32 steps.
    function _registered(uint32 participant, uint256 offset) private view returns (address found) {
        if (participant >= _counters.participants) revert UnknownParticipant(participant);
        uint256 low;
        uint256 high = _chunks.length - 1;
        while (low < high) {
            uint256 middle = (low + high + 1) / 2;
            if (_chunks[middle].first <= participant) low = middle;
            else high = middle - 1;
        }
        Chunk storage chunk = _chunks[low];
        address data = chunk.data;
        uint256 cursor = 1 + (participant - chunk.first) * _ACCOUNT_BYTES + offset;
        assembly ("memory-safe") {
            extcodecopy(data, 0, cursor, 20)
            found := shr(96, mload(0))
        }
    }

    /// @dev Makes a contract whose code is STOP, so that it can never run, and the data.
    function _store(bytes calldata data) private returns (address made) {
        assembly ("memory-safe") {
            let cursor := mload(0x40)
            // PUSH4 size, DUP1, PUSH1 14, PUSH1 0, CODECOPY, PUSH1 0, RETURN, then the code
            let size := add(data.length, 1)
            mstore(cursor, shl(144, or(shl(72, or(shl(32, 0x63), size)), 0x80600e6000396000f3)))
            calldatacopy(add(cursor, 15), data.offset, data.length)
            made := create(0, cursor, add(data.length, 15))
            if iszero(made) { revert(0, 0) }
        }
    }
}
