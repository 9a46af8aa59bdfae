// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Registry} from "./Registry.sol";

/// @title Balances that participants hold in escrow, in a token of six decimals.
/// @notice The contract always holds at least the sum of all balances. What is deposited counts
/// as what arrives, so a token that takes a fee is safe; a token that changes balances on its
/// own is not to be used.
/// @dev Balances are 64 bits, four to a storage word, the lowest id in the highest bits: packed
/// amounts have the same layout as the words they are added to. No balance can overflow, because
/// their sum, `Counters.escrowMicro`, does not.
abstract contract Escrow is Registry, ReentrancyGuardTransient {
    using SafeERC20 for IERC20Metadata;

    /// @notice The token that balances are held in.
    IERC20Metadata public immutable token;

    uint256 private constant _MAX_ESCROW = uint256(uint64(type(int64).max));

    /// @dev Word `participant / 4` of this range holds its balance.
    uint256[1 << 30] internal _words;

    /// @notice `amount` arrived in the account of `participant`.
    event Deposited(uint32 indexed participant, uint256 amount);
    /// @notice `amount` arrived in the accounts of `size` participants from `first` on.
    event Funded(uint32 indexed first, uint32 size, uint256 amount);
    /// @notice `amount` left the account of `participant`, for `to`.
    event Withdrawn(uint32 indexed participant, address indexed to, uint256 amount);

    /// @notice The escrow counts in 1e-6 currency, so its token must have six decimals.
    error TokenDecimals(uint8 decimals);
    /// @notice All balances together must stay below 2^63.
    error EscrowFull();
    /// @notice `participant` has only `balance`.
    error BalanceTooLow(uint32 participant, uint256 balance);
    /// @notice Of `sum` only `received` arrived, so that the amounts cannot all be credited.
    error FundingShort(uint256 sum, uint256 received);
    /// @notice Amounts are 8 bytes each, of participants from a multiple of four on.
    error MalformedAmounts(uint32 first, uint256 length);

    constructor(IERC20Metadata token_) {
        uint8 decimals = token_.decimals();
        if (decimals != 6) revert TokenDecimals(decimals);
        token = token_;
    }

    /// @notice Pays into a participant's account, or the network account. Anyone can, for
    /// anyone; the token must have been approved.
    /// @param amount What to take from the caller [1e-6 currency].
    function deposit(uint32 participant, uint256 amount) external nonReentrant whenNotPaused {
        if (participant >= _counters.participants && participant != NETWORK_ACCOUNT) {
            revert UnknownParticipant(participant);
        }
        uint256 received = _receive(amount);
        // The sum was checked to stay below 2^63, and so does this balance.
        _words[participant >> 2] += received << _shift(participant);
        emit Deposited(participant, received);
    }

    /// @notice Pays into the accounts of participants in a row, in one call.
    /// @param first Id of the first of them, a multiple of four.
    /// @param amounts Amount of each, 8 bytes big-endian [1e-6 currency].
    function fund(uint32 first, bytes calldata amounts) external nonReentrant whenNotPaused {
        uint256 size = amounts.length / 8;
        if (first % 4 != 0 || amounts.length % 8 != 0) {
            revert MalformedAmounts(first, amounts.length);
        }
        if (first + size > _counters.participants) revert UnknownParticipant(uint32(first + size));
        uint256 sum = _addAll(first >> 2, amounts);
        uint256 received = _receive(sum);
        if (received != sum) revert FundingShort(sum, received);
        emit Funded(first, uint32(size), sum);
    }

    /// @notice Pays out of an account. Only its owner can, at any time, also while paused.
    /// @param to Who gets the tokens.
    function withdraw(uint32 participant, uint256 amount, address to) external nonReentrant {
        if (msg.sender != ownerOf(participant)) revert NotOwner(participant, msg.sender);
        uint256 balance = balanceOf(participant);
        if (amount > balance) revert BalanceTooLow(participant, balance);
        _words[participant >> 2] -= amount << _shift(participant);
        _counters.escrowMicro -= uint64(amount);
        emit Withdrawn(participant, to, amount);
        token.safeTransfer(to, amount);
    }

    /// @notice Balance of a participant or of the network account [1e-6 currency].
    function balanceOf(uint32 participant) public view returns (uint256) {
        return uint64(_words[participant >> 2] >> _shift(participant));
    }

    /// @notice Balances of `4 * count` participants from `4 * firstWord` on, 8 bytes each.
    function balanceWords(uint256 firstWord, uint256 count)
        external
        view
        returns (uint256[] memory words)
    {
        words = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            words[i] = _words[firstWord + i];
        }
    }

    /// @dev Takes tokens from the caller and counts what arrived.
    function _receive(uint256 amount) private returns (uint256 received) {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        received = token.balanceOf(address(this)) - before;
        uint256 sum = _counters.escrowMicro + received;
        if (sum > _MAX_ESCROW) revert EscrowFull();
        _counters.escrowMicro = uint64(sum);
    }

    /// @dev Adds packed amounts to the words of balances; a carry between balances would mean a
    /// sum of 2^63 or more, which the caller refuses.
    function _addAll(uint256 word, bytes calldata amounts) private returns (uint256 sum) {
        assembly ("memory-safe") {
            let slot := add(_words.slot, word)
            let cursor := amounts.offset
            let end := add(cursor, amounts.length)
            for {} lt(cursor, end) { cursor := add(cursor, 32) } {
                let added := calldataload(cursor)
                if lt(sub(end, cursor), 32) {
                    let unused := shl(3, sub(32, sub(end, cursor)))
                    added := shl(unused, shr(unused, added))
                }
                if added {
                    sstore(slot, add(sload(slot), added))
                    sum := add(sum, shr(192, added))
                    sum := add(sum, and(shr(128, added), 0xffffffffffffffff))
                    sum := add(sum, and(shr(64, added), 0xffffffffffffffff))
                    sum := add(sum, and(added, 0xffffffffffffffff))
                }
                slot := add(slot, 1)
            }
        }
    }

    function _shift(uint32 participant) private pure returns (uint256) {
        return 192 - 64 * (participant & 3);
    }
}
