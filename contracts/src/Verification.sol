// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Batch, Batches, Sums} from "./Batches.sol";

/// @dev How far a participant's trades may be from its reading, in 1e-6 Wh so that all is exact:
/// `fixedMicroWh` + `ppm` * |reading in Wh|.
struct Tolerance {
    uint256 fixedMicroWh;
    uint256 ppm;
}

/// @title Holding the sums of a batch against readings (thesis 5-7) and balances.
/// @dev `check` says at once, in assembly, whether anything is wrong, which is the usual case
/// and has to be cheap. Only where something is do `markFaults` and `markShorts` find out what.
library Verification {
    uint256 private constant _LANE = 0xffffffffffffffff;
    uint256 private constant _WH = 0x7fffffffffff;
    uint256 private constant _NO_READING = 0x800000000000;

    /// @notice Holds sums against readings and balances, and works out the new balances.
    /// @param slot Storage slot of the balance word of the group's first participant.
    /// @param pairs Where in memory to put the slot and the new word of each balance word with
    /// trades.
    /// @return ok Whether every reading bears out the trades, and every balance covers them.
    /// @return pairsEnd Behind the last pair; what is there is of no use unless `ok`.
    /// @return total Sum of all words of the sums, each of its four parts below 2^64.
    function check(Batch memory b, Sums memory s, Tolerance memory t, uint256 slot, uint256 pairs)
        internal
        view
        returns (bool ok, uint256 pairsEnd, uint256 total)
    {
        uint256 cursor = s.words;
        uint256 end = s.end;
        // The readings of a word start at its first participant's, whether in the group or not.
        uint256 reading = b.readings - 6 * ((s.first - cursor) >> 5);
        // Readings have been dealt with where some trades are void already.
        uint256 checked = s.reasons;
        pairsEnd = pairs;
        uint256 wrong;
        assembly ("memory-safe") {
            for {} lt(cursor, end) { slot := add(slot, 1) } {
                if iszero(
                    or(
                        or(mload(cursor), mload(add(cursor, 0x20))),
                        or(mload(add(cursor, 0x40)), mload(add(cursor, 0x60)))
                    )
                ) {
                    cursor := add(cursor, 0x80)
                    reading := add(reading, 24)
                    continue
                }
                let old := sload(slot)
                let new := old
                for { let shift := 192 } 1 { shift := sub(shift, 64) } {
                    let sums := mload(cursor)
                    if sums {
                        total := add(total, sums)
                        if iszero(checked) {
                            let sold := shr(192, sums)
                            let bought := and(shr(128, sums), _LANE)
                            let read := shr(208, calldataload(reading))
                            let wh := and(read, _WH)
                            let limit := add(mload(t), mul(mload(add(t, 0x20)), wh))
                            // Read in the direction of the trades: minus if in the other.
                            if eq(iszero(bought), shr(47, read)) { wh := sub(0, wh) }
                            let off := mul(1000000, sub(or(sold, bought), wh))
                            // |off| > limit, in modular arithmetic
                            wrong :=
                                or(
                                    wrong,
                                    or(
                                        or(
                                            gt(add(off, limit), add(limit, limit)),
                                            eq(read, _NO_READING)
                                        ),
                                        mul(sold, bought)
                                    )
                                )
                        }
                        let debit := and(sums, _LANE)
                        wrong := or(wrong, gt(debit, and(shr(shift, old), _LANE)))
                        new := add(new, shl(shift, sub(and(shr(64, sums), _LANE), debit)))
                    }
                    cursor := add(cursor, 0x20)
                    reading := add(reading, 6)
                    if iszero(shift) { break }
                }
                mstore(pairsEnd, slot)
                mstore(add(pairsEnd, 0x20), new)
                pairsEnd := add(pairsEnd, 0x40)
            }
        }
        ok = wrong == 0;
    }

    /// @notice Marks the participants whose readings do not bear out their trades (5-7).
    function markFaults(Batch memory b, Sums memory s, Tolerance memory t) internal pure {
        for (uint256 member; member < b.members; ++member) {
            uint256 sums = _load(s.first + 32 * member);
            if (sums == 0) continue;
            uint256 read;
            uint256 cursor = b.readings + 6 * member;
            assembly ("memory-safe") {
                read := shr(208, calldataload(cursor))
            }
            _mark(s, member, fault(sums >> 192, (sums >> 128) & _LANE, read, t));
        }
    }

    /// @notice Marks the participants whose balances do not cover what they are debited.
    /// @return any Whether there are any.
    function markShorts(Batch memory b, Sums memory s, uint256 slot) internal view returns (bool any)
    {
        uint256 lead = (s.first - s.words) >> 5;
        for (uint256 member; member < b.members; ++member) {
            uint256 position = lead + member;
            uint256 word;
            assembly ("memory-safe") {
                word := sload(add(slot, shr(2, position)))
            }
            uint256 balance = (word >> (192 - 64 * (position & 3))) & _LANE;
            if ((_load(s.first + 32 * member) & _LANE) > balance) {
                _mark(s, member, Batches.NO_FUNDS);
                any = true;
            }
        }
    }

    /// @notice Why a reading does not bear out trades, 0 if it does.
    /// @param sold What the participant sold [Wh].
    /// @param bought What it bought [Wh].
    /// @param read Its reading as in the batch.
    function fault(uint256 sold, uint256 bought, uint256 read, Tolerance memory t)
        internal
        pure
        returns (uint256)
    {
        if (read == _NO_READING) return Batches.NO_READING;
        if (sold != 0 && bought != 0) return Batches.BOTH_SIDES;
        int256 wh = int256(read & _WH);
        int256 off = int256(sold) - int256(bought) - (read > _WH ? -wh : wh);
        uint256 distance = uint256(off < 0 ? -off : off);
        if (distance * 1e6 > t.fixedMicroWh + t.ppm * uint256(wh)) return Batches.MISMATCH;
        return 0;
    }

    function _mark(Sums memory s, uint256 member, uint256 reason) private pure {
        uint256 cursor = s.reasons + s.first - s.words + 32 * member;
        assembly ("memory-safe") {
            mstore(cursor, reason)
        }
    }

    function _load(uint256 cursor) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(cursor)
        }
    }
}
