// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {Batch, Batches, Sums} from "./Batches.sol";
import {Escrow} from "./Escrow.sol";
import {Registry} from "./Registry.sol";
import {Tolerance, Verification} from "./Verification.sol";

/// @title Verification (thesis 5-7) and settlement (5-8) of a market's trades.
/// @notice The meter authority commits, by hash, the readings of a group of participants in a
/// period. The operator submits that group's trades of that period with those readings, and the
/// contract settles what they bear out: every participant must have traded what its meter read,
/// up to the tolerance, and hold what it owes; the trades of one that does not are void, all
/// others move money from buyer to seller. Which trades are void follows from readings, trades
/// and balances alone, so nobody's meter can hold up anybody else's trades.
///
/// A group and period settle once, for ever. Batches are numbered without gaps. Of each a hash
/// is kept, of all its bytes, its number and its void trades, from which any one of its trades
/// can be proven (`proveTrade`).
///
/// Money is in 1e-6 of the token's currency and conserved to the unit: each side's value is
/// rounded on its own, to the nearest, halves upwards, and the network account takes or bears
/// any difference between the two sides.
/// @dev There are no upgrades: what is to change is deployed anew.
contract Settlement is Escrow {
    using Batches for Batch;
    using Verification for Batch;
    using Verification for Sums;

    /// @notice Who and what a settlement is deployed with; see the functions of each name.
    struct Parameters {
        IERC20Metadata token;
        address admin;
        address registrar;
        address operator;
        address meterAuthority;
        address pauser;
        address networkOwner;
        uint64 toleranceWh;
        uint32 tolerancePpm;
    }

    /// @notice Part of the tolerance that is the same for all readings [Wh].
    uint64 public immutable toleranceWh;
    /// @notice Part of the tolerance that grows with the reading [1e-6 of it].
    uint32 public immutable tolerancePpm;

    uint256 private constant _LANE = 0xffffffffffffffff;
    uint256 private constant _COMMITMENT_BYTES = 40;
    /// @dev Lowest bit of a period's word: 0 in the hash of its readings, 1 in its record.
    uint256 private constant _SETTLED = 1;

    /// @dev By group << 32 | period: the hash of the readings, then the record of the batch.
    mapping(uint256 batchId => uint256) private _periods;

    /// @notice Readings were committed: group u32, period u32 and keccak256 of each, in a row.
    event ReadingsCommitted(bytes commitments);

    /// @notice A batch settled.
    /// @param record What the contract keeps of it, see `recordOf`.
    /// @param settled Number of its trades that settled.
    /// @param energyWh What these traded [Wh].
    /// @param networkMicro What the network account got, or paid if negative [1e-6 currency].
    /// @param voids Its trades that are void: position u24, reason u8 each. Reasons: 1 no
    /// reading, 2 reading and trades differ, 3 sells and buys, 4 no funds, 5 no funds in the
    /// network account; plus 128 where the buyer is the reason.
    event BatchSettled(
        uint64 indexed sequence,
        uint32 indexed group,
        uint32 indexed period,
        bytes32 record,
        uint256 settled,
        uint256 energyWh,
        int256 networkMicro,
        bytes voids
    );

    /// @notice Commitments are 40 bytes each.
    error MalformedCommitments(uint256 length);
    /// @notice The readings of `group` and `period` are committed, and so they stay.
    error AlreadyCommitted(uint32 group, uint32 period);
    /// @notice `group` and `period` have settled.
    error AlreadySettled(uint32 group, uint32 period);
    /// @notice The batch's readings are not those that the meter authority committed.
    error ReadingsNotCommitted(uint32 group, uint32 period);
    /// @notice The batch has readings of more members than `group` has.
    error TooManyMembers(uint32 group, uint256 members);
    /// @notice The next batch has to be number `expected`.
    error WrongSequence(uint64 expected, uint64 given);
    /// @notice The batch, its number and its void trades are not what settled.
    error NoSuchRecord();
    /// @notice The batch has no trade `index`.
    error NoSuchTrade(uint256 index);

    constructor(Parameters memory p) Escrow(p.token) Registry(p.networkOwner) {
        toleranceWh = p.toleranceWh;
        tolerancePpm = p.tolerancePpm;
        _grantRole(DEFAULT_ADMIN_ROLE, p.admin);
        _grantRole(REGISTRAR_ROLE, p.registrar);
        _grantRole(OPERATOR_ROLE, p.operator);
        _grantRole(METER_AUTHORITY_ROLE, p.meterAuthority);
        _grantRole(PAUSER_ROLE, p.pauser);
    }

    /// @notice Commits the readings of groups and periods, each once.
    /// @param commitments Per group and period: group u32, period u32, keccak256 of the readings
    /// as they will stand in the batch.
    function commitReadings(bytes calldata commitments)
        external
        onlyRole(METER_AUTHORITY_ROLE)
        whenNotPaused
    {
        uint256 length = commitments.length;
        if (length % _COMMITMENT_BYTES != 0) revert MalformedCommitments(length);
        for (uint256 cursor; cursor < length; cursor += _COMMITMENT_BYTES) {
            uint256 batchId = uint64(bytes8(commitments[cursor:cursor + 8]));
            if (_periods[batchId] != 0) {
                revert AlreadyCommitted(uint32(batchId >> 32), uint32(batchId));
            }
            _periods[batchId] = uint256(bytes32(commitments[cursor + 8:cursor + 40])) & ~_SETTLED;
        }
        emit ReadingsCommitted(commitments);
    }

    /// @notice Settles batches, one after the other.
    /// @param first Number of the first of them, which must be the next.
    /// @param batches The batches, one behind the other, as `Batch` says.
    function settle(uint64 first, bytes calldata batches)
        external
        onlyRole(OPERATOR_ROLE)
        whenNotPaused
    {
        uint64 sequence = _counters.nextSequence;
        if (first != sequence) revert WrongSequence(sequence, first);
        uint256 cursor;
        uint256 limit;
        assembly ("memory-safe") {
            cursor := batches.offset
            limit := add(cursor, batches.length)
        }
        uint256 memoryBefore;
        assembly ("memory-safe") {
            memoryBefore := mload(0x40)
        }
        while (cursor < limit) {
            Batch memory b = Batches.read(cursor, limit);
            cursor = b.end;
            _settle(b, sequence);
            ++sequence;
            // Each batch works in the same memory; nothing of it is needed afterwards.
            assembly ("memory-safe") {
                mstore(0x40, memoryBefore)
            }
        }
        _counters.nextSequence = sequence;
    }

    /// @notice Hash of the readings committed for a group and period, its lowest bit cleared; 0
    /// if there are none, or if they have settled.
    function commitmentOf(uint32 group, uint32 period) external view returns (bytes32) {
        uint256 word = _periods[_batchId(group, period)];
        return word & _SETTLED == 0 ? bytes32(word) : bytes32(0);
    }

    /// @notice What is kept of a settled batch: keccak256 of its bytes, its number in 8 bytes
    /// and its void trades as in the event, with the lowest bit set; 0 if it has not settled.
    function recordOf(uint32 group, uint32 period) public view returns (bytes32) {
        uint256 word = _periods[_batchId(group, period)];
        return word & _SETTLED != 0 ? bytes32(word) : bytes32(0);
    }

    /// @notice Commitments and records of many batches at once, as they are stored: odd once
    /// settled, even if only committed, 0 if neither.
    /// @param batchIds group << 32 | period of each.
    function periodWords(uint64[] calldata batchIds)
        external
        view
        returns (uint256[] memory words)
    {
        words = new uint256[](batchIds.length);
        for (uint256 i; i < batchIds.length; ++i) {
            words[i] = _periods[batchIds[i]];
        }
    }

    /// @notice Proves one trade of a settled batch from what the chain's history holds: the
    /// batch's bytes in the operator's transaction, number and void trades in the event.
    /// @return reason 0 if it settled, else why it is void, as in the event.
    /// @return seller Id of the seller.
    /// @return buyer Id of the buyer.
    /// @return energyWh Energy [Wh].
    /// @return earnedMicro What the seller was credited, if it settled [1e-6 currency].
    /// @return paidMicro What the buyer was debited, if it settled [1e-6 currency].
    function proveTrade(bytes calldata batch, uint64 sequence, bytes calldata voids, uint256 index)
        external
        view
        returns (
            uint8 reason,
            uint32 seller,
            uint32 buyer,
            uint256 energyWh,
            int256 earnedMicro,
            int256 paidMicro
        )
    {
        uint256 cursor;
        assembly ("memory-safe") {
            cursor := batch.offset
        }
        Batch memory b = Batches.read(cursor, cursor + batch.length);
        uint256 record = uint256(keccak256(abi.encodePacked(batch, sequence, voids))) | _SETTLED;
        if (b.end != cursor + batch.length || recordOf(b.group, b.period) != bytes32(record)) {
            revert NoSuchRecord();
        }
        if (index >= b.trades) revert NoSuchTrade(index);
        for (uint256 i; i < voids.length; i += 4) {
            if (uint24(bytes3(voids[i:i + 3])) == index) reason = uint8(voids[i + 3]);
        }
        uint32 first = _groups[b.group].first;
        int256 sellerPrice;
        int256 buyerPrice;
        uint256 sellerAt;
        uint256 buyerAt;
        (sellerAt, buyerAt, energyWh, sellerPrice, buyerPrice) = b.tradeAt(index);
        seller = first + uint32(sellerAt);
        buyer = first + uint32(buyerAt);
        earnedMicro = Batches.valueOf(energyWh, sellerPrice);
        paidMicro = Batches.valueOf(energyWh, buyerPrice);
    }

    /// @dev Verifies and settles one batch.
    function _settle(Batch memory b, uint64 sequence) private {
        Group memory g = _groups[b.group];
        if (b.members > g.size) revert TooManyMembers(b.group, b.members);
        uint256 batchId = _batchId(b.group, b.period);
        _checkReadings(b, _periods[batchId]);

        Sums memory s = b.reserve(g.first);
        (uint256 total, int256 network) = _moveMoney(b, s, g.first);

        bytes memory voids = _voidsOf(s);
        uint256 record = _hash(b, sequence, voids) | _SETTLED;
        _periods[batchId] = record;
        emit BatchSettled(
            sequence,
            b.group,
            b.period,
            bytes32(record),
            b.trades - voids.length / 4,
            total >> 192,
            network,
            voids
        );
    }

    /// @dev Refuses a batch with readings other than those committed.
    function _checkReadings(Batch memory b, uint256 word) private pure {
        if (word & _SETTLED != 0) revert AlreadySettled(b.group, b.period);
        uint256 from = b.readings;
        uint256 size = b.records - from;
        uint256 hash;
        assembly ("memory-safe") {
            let cursor := mload(0x40)
            calldatacopy(cursor, from, size)
            hash := keccak256(cursor, size)
        }
        if (word == 0 || hash & ~_SETTLED != word) revert ReadingsNotCommitted(b.group, b.period);
    }

    /// @dev Adds up the trades, leaves out those that are void, and writes the new balances. Each
    /// step voids more trades, which lowers what others are debited, so none is taken twice.
    /// @return total Sum of the sums of all participants.
    /// @return network What the network account gets.
    function _moveMoney(Batch memory b, Sums memory s, uint256 firstId)
        private
        returns (uint256 total, int256 network)
    {
        uint256 slot;
        assembly ("memory-safe") {
            slot := add(_words.slot, shr(2, firstId))
        }
        if (!b.addQuickly(s)) b.addAgain(s);
        Tolerance memory t = Tolerance(uint256(toleranceWh) * 1e6, tolerancePpm);
        if (!b.readingsHold(s, t)) {
            b.expectVoids(s);
            b.markFaults(s, t);
            b.addAgain(s);
        }
        uint256 pairs = Batches.take((s.end - s.words) / 2);
        bool ok;
        uint256 pairsEnd;
        (ok, pairsEnd, total) = s.balancesHold(slot, pairs);
        if (!ok) {
            b.expectVoids(s);
            b.markShorts(s, slot);
            b.addAgain(s);
            (ok, pairsEnd, total) = s.balancesHold(slot, pairs);
        }
        network = _networkOf(total);
        if (_exceedsNetworkBalance(network)) {
            b.expectVoids(s);
            s.networkVoid = true;
            b.addAgain(s);
            (ok, pairsEnd, total) = s.balancesHold(slot, pairs);
            network = _networkOf(total);
        }
        assert(ok);
        assembly ("memory-safe") {
            for {} lt(pairs, pairsEnd) { pairs := add(pairs, 0x40) } {
                sstore(mload(pairs), mload(add(pairs, 0x20)))
            }
        }
        // The network account's balance is the lowest 64 bits of its word, and stays in range.
        if (network != 0) {
            uint256 word = _words[NETWORK_ACCOUNT >> 2];
            _words[NETWORK_ACCOUNT >> 2] = uint256(int256(word) + network);
        }
    }

    /// @dev What the network account gets of sums: debits less credits.
    function _networkOf(uint256 sums) private pure returns (int256) {
        return int256(sums & _LANE) - int256((sums >> 64) & _LANE);
    }

    /// @dev Whether the network account would have to pay what it does not have.
    function _exceedsNetworkBalance(int256 network) private view returns (bool) {
        return network < 0 && uint256(-network) > balanceOf(NETWORK_ACCOUNT);
    }

    /// @dev The list of void trades as bytes.
    function _voidsOf(Sums memory s) private pure returns (bytes memory list) {
        uint256 from = s.voids;
        list = new bytes(s.voidsEnd - from);
        assembly ("memory-safe") {
            mcopy(add(list, 0x20), from, mload(list))
        }
    }

    /// @dev keccak256 of a batch's bytes, its number and its void trades.
    function _hash(Batch memory b, uint64 sequence, bytes memory voids)
        private
        pure
        returns (uint256 hash)
    {
        uint256 from = b.start;
        uint256 size = b.end - from;
        assembly ("memory-safe") {
            let cursor := mload(0x40)
            calldatacopy(cursor, from, size)
            mstore(add(cursor, size), shl(192, sequence))
            let length := mload(voids)
            mcopy(add(cursor, add(size, 8)), add(voids, 0x20), length)
            hash := keccak256(cursor, add(add(size, 8), length))
        }
    }

    function _batchId(uint32 group, uint32 period) private pure returns (uint256) {
        return (uint256(group) << 32) | period;
    }
}
