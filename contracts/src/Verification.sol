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
/// @dev `readingsHold` and `balancesHold` say, in assembly, whether anything is wrong: nothing is
/// in the usual case, which has to be cheap. Where something is, `markFaults` and `markShorts`
/// find out what.
library Verification {
    uint256 private constant _LANE = 0xffffffffffffffff;
    uint256 private constant _CREDIT = 0xffffffffffffffff0000000000000000;
    uint256 private constant _TOP_BITS =
        0x8000000000000000800000000000000080000000000000008000000000000000;
    uint256 private constant _WH = 0x7fffffffffff;
    uint256 private constant _NO_READING = 0x800000000000;

    /// @notice Whether every reading bears out its participant's trades (5-7).
    function readingsHold(Batch memory b, Sums memory s, Tolerance memory t)
        internal
        pure
        returns (bool)
    {
        uint256 cursor = s.first;
        uint256 end = cursor + 32 * b.members;
        uint256 reading = b.readings;
        uint256 fixedMicroWh = t.fixedMicroWh;
        uint256 ppm = t.ppm;
        uint256 wrong;
        assembly ("memory-safe") {
            for {} lt(cursor, end) {
                cursor := add(cursor, 0x20)
                reading := add(reading, 6)
            } {
                let sums := mload(cursor)
                if iszero(sums) { continue }
                let sold := shr(192, sums)
                let bought := and(shr(128, sums), _LANE)
                let read := shr(208, calldataload(reading))
                let wh := and(read, _WH)
                let limit := add(fixedMicroWh, mul(ppm, wh))
                // 1e6 times net trades less the signed reading: the sign is 1 - 2 * (read >> 47).
                let off := sub(sub(sold, bought), mul(wh, sub(1, shl(1, shr(47, read)))))
                off := mul(1000000, off)
                // |off| > limit, in modular arithmetic; or no reading; or both sides
                wrong := or(wrong, gt(add(off, limit), add(limit, limit)))
                wrong := or(wrong, or(eq(read, _NO_READING), mul(sold, bought)))
            }
        }
        return wrong == 0;
    }

    /// @notice Holds sums against balances, four at a time, and works out the new balances.
    /// @dev Debits, credits and balances are below 2^63 each, so that the highest bit of each of
    /// the four parts of a word is free to show a subtraction that would have borrowed.
    /// @param slot Storage slot of the balance word of the group's first participant.
    /// @param pairs Where in memory to put slot and new value of each balance word with trades.
    /// @return ok Whether every balance covers what its participant is debited.
    /// @return pairsEnd Behind the last pair; the pairs are of no use unless `ok`.
    /// @return total Sum of all words of the sums, each of its four parts below 2^64.
    function balancesHold(Sums memory s, uint256 slot, uint256 pairs)
        internal
        view
        returns (bool ok, uint256 pairsEnd, uint256 total)
    {
        uint256 cursor = s.words;
        uint256 end = s.end;
        pairsEnd = pairs;
        uint256 kept = _TOP_BITS;
        assembly ("memory-safe") {
            for {} lt(cursor, end) {
                cursor := add(cursor, 0x80)
                slot := add(slot, 1)
            } {
                let a := mload(cursor)
                let b := mload(add(cursor, 0x20))
                let c := mload(add(cursor, 0x40))
                let d := mload(add(cursor, 0x60))
                if iszero(or(or(a, b), or(c, d))) { continue }
                total := add(total, add(add(a, b), add(c, d)))
                let debits := or(shl(192, a), shl(128, and(b, _LANE)))
                debits := or(debits, or(shl(64, and(c, _LANE)), and(d, _LANE)))
                let credits := or(shl(128, and(a, _CREDIT)), shl(64, and(b, _CREDIT)))
                credits := or(credits, or(and(c, _CREDIT), shr(64, and(d, _CREDIT))))
                let balances := sload(slot)
                kept := and(kept, sub(or(balances, _TOP_BITS), debits))
                mstore(pairsEnd, slot)
                mstore(add(pairsEnd, 0x20), sub(add(balances, credits), debits))
                pairsEnd := add(pairsEnd, 0x40)
            }
        }
        ok = kept == _TOP_BITS;
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
    function markShorts(Batch memory b, Sums memory s, uint256 slot) internal view {
        uint256 lead = (s.first - s.words) / 32;
        for (uint256 member; member < b.members; ++member) {
            uint256 position = lead + member;
            uint256 word;
            assembly ("memory-safe") {
                word := sload(add(slot, shr(2, position)))
            }
            uint256 balance = (word >> (192 - 64 * (position & 3))) & _LANE;
            if ((_load(s.first + 32 * member) & _LANE) > balance) {
                _mark(s, member, Batches.NO_FUNDS);
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
