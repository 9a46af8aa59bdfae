// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Batches} from "../src/Batches.sol";
import {Settlement} from "../src/Settlement.sol";
import {Base} from "./Base.sol";
import {Vm} from "./Vm.sol";

contract SettlementTest is Base {
    uint32 internal constant GROUP = 3;
    uint8 internal constant NO_READING = 1;
    uint8 internal constant MISMATCH = 2;
    uint8 internal constant BOTH_SIDES = 3;
    uint8 internal constant NO_FUNDS = 4;
    uint8 internal constant NETWORK_FUNDS = 5;
    uint8 internal constant BUYER = 0x80;

    function setUp() public override {
        super.setUp();
        register(1, 2);
        register(GROUP, 5);
        fundAll(1_000_000);
    }

    function three() internal pure returns (Trade[] memory trades, bytes memory packed) {
        trades = new Trade[](3);
        trades[0] = Trade(0, 2, 1000, 0, 0);
        trades[1] = Trade(1, 2, 500, 0, 0);
        trades[2] = Trade(1, 3, 700, 0, 0);
        int256[] memory wh = new int256[](5);
        (wh[0], wh[1], wh[2], wh[3]) = (1000, 1200, -1500, -700);
        packed = readings(wh);
    }

    function batchOf(uint32 period) internal pure returns (bytes memory) {
        (Trade[] memory trades, bytes memory packed) = three();
        return encode(GROUP, period, 0, 200_000, packed, trades);
    }

    function commitThree(uint32 period) internal {
        (, bytes memory packed) = three();
        commit(GROUP, period, packed);
    }

    function testMoneyMovesFromBuyersToSellers() public {
        commitThree(0);
        vm.recordLogs();
        settle(batchOf(0));
        same(settlement.balanceOf(2), 1_200_000, "seller 0");
        same(settlement.balanceOf(3), 1_240_000, "seller 1");
        same(settlement.balanceOf(4), 700_000, "buyer 2");
        same(settlement.balanceOf(5), 860_000, "buyer 3");
        same(settlement.balanceOf(6), 1_000_000, "without trades");
        same(settlement.balanceOf(1), 1_000_000, "of another group");
        Vm.Log memory log = settledLogs()[0];
        same(uint256(log.topics[1]), 0, "sequence");
        same(uint256(log.topics[2]), GROUP, "group");
        same(uint256(log.topics[3]), 0, "period");
        (bytes32 record, uint256 settled, uint256 energyWh, int256 network, bytes memory voids) =
            abi.decode(log.data, (bytes32, uint256, uint256, int256, bytes));
        yes(record == settlement.recordOf(GROUP, 0), "record");
        same(settled, 3, "settled");
        same(energyWh, 2200, "energy");
        yes(network == 0 && voids.length == 0, "no rest");
        same(settlement.nextSequence(), 1, "next");
    }

    function testNothingSettlesTwice() public {
        commitThree(0);
        bytes memory batch = batchOf(0);
        settle(batch);
        bytes memory settled = abi.encodeWithSelector(Settlement.AlreadySettled.selector, GROUP, 0);
        vm.prank(OPERATOR);
        vm.expectRevert(settled);
        settlement.settle(1, batch);
        vm.prank(OPERATOR);
        vm.expectRevert(
            abi.encodeWithSelector(Settlement.WrongSequence.selector, uint64(1), uint64(0))
        );
        settlement.settle(0, batch);
        // Nor can its readings be committed again.
        (, bytes memory packed) = three();
        vm.prank(AUTHORITY);
        vm.expectRevert(abi.encodeWithSelector(Settlement.AlreadyCommitted.selector, GROUP, 0));
        settlement.commitReadings(bytes.concat(bytes4(GROUP), bytes4(0), keccak256(packed)));
        // Nor twice in one transaction.
        commitThree(1);
        bytes memory twice = bytes.concat(batchOf(1), batchOf(1));
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Settlement.AlreadySettled.selector, GROUP, 1));
        settlement.settle(1, twice);
    }

    function testSequenceHasNoGaps() public {
        commitThree(0);
        bytes memory batch = batchOf(0);
        vm.prank(OPERATOR);
        vm.expectRevert(
            abi.encodeWithSelector(Settlement.WrongSequence.selector, uint64(0), uint64(1))
        );
        settlement.settle(1, batch);
    }

    function testSeveralBatchesInOneTransaction() public {
        commitThree(0);
        commitThree(1);
        commitThree(2);
        vm.recordLogs();
        settle(bytes.concat(batchOf(2), batchOf(0), batchOf(1)));
        Vm.Log[] memory logs = settledLogs();
        same(logs.length, 3, "batches");
        for (uint256 i; i < 3; ++i) {
            same(uint256(logs[i].topics[1]), i, "sequence");
        }
        same(settlement.balanceOf(2), 1_600_000, "seller 0");
        same(settlement.nextSequence(), 3, "next");
    }

    function testReadingsMustBeTheCommittedOnes() public {
        bytes memory batch = batchOf(0);
        bytes memory refusal =
            abi.encodeWithSelector(Settlement.ReadingsNotCommitted.selector, GROUP, 0);
        vm.prank(OPERATOR);
        vm.expectRevert(refusal);
        settlement.settle(0, batch);
        commitThree(1);
        vm.prank(OPERATOR);
        vm.expectRevert(refusal);
        settlement.settle(0, batch);
        (, bytes memory packed) = three();
        packed[5] ^= 0x01;
        commit(GROUP, 0, packed);
        vm.prank(OPERATOR);
        vm.expectRevert(refusal);
        settlement.settle(0, batch);
    }

    function testARecordCannotStandInForACommitment() public {
        // A group that settled, and "readings" that hash to what is stored of it.
        commitThree(0);
        settle(batchOf(0));
        register(GROUP, 10);
        bytes memory preimage = bytes.concat(batchOf(0), bytes8(0));
        same(preimage.length, 15 * 6, "as long as the readings of 15 members");
        yes(bytes32(uint256(keccak256(preimage)) | 1) == settlement.recordOf(GROUP, 0), "preimage");
        bytes memory again = encode(GROUP, 0, 0, 0, preimage, new Trade[](0));
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Settlement.AlreadySettled.selector, GROUP, 0));
        settlement.settle(1, again);
    }

    function testCommitmentsAreReadBack() public {
        (, bytes memory packed) = three();
        commitThree(4);
        bytes32 hash = keccak256(packed);
        yes(settlement.commitmentOf(GROUP, 4) == hash & ~bytes32(uint256(1)), "commitment");
        yes(settlement.recordOf(GROUP, 4) == 0, "no record yet");
        settle(batchOf(4));
        yes(settlement.commitmentOf(GROUP, 4) == 0, "no longer");
        uint64[] memory ids = new uint64[](2);
        (ids[0], ids[1]) = ((uint64(GROUP) << 32) | 4, 99);
        uint256[] memory words = settlement.periodWords(ids);
        same(words[0], uint256(settlement.recordOf(GROUP, 4)), "record");
        same(words[1], 0, "nothing");
    }

    function testMalformedCommitmentsAreRefused() public {
        vm.prank(AUTHORITY);
        vm.expectRevert(abi.encodeWithSelector(Settlement.MalformedCommitments.selector, 41));
        settlement.commitReadings(new bytes(41));
    }

    function testManyCommitmentsAtOnce() public {
        bytes memory all;
        for (uint32 period; period < 5; ++period) {
            all = bytes.concat(all, bytes4(GROUP), bytes4(period), keccak256(abi.encode(period)));
        }
        vm.prank(AUTHORITY);
        settlement.commitReadings(all);
        for (uint32 period; period < 5; ++period) {
            bytes32 hash = keccak256(abi.encode(period)) & ~bytes32(uint256(1));
            yes(settlement.commitmentOf(GROUP, period) == hash, "commitment");
        }
    }

    function refusedBatch(bytes memory batch, bytes memory why) internal {
        vm.prank(OPERATOR);
        vm.expectRevert(why);
        settlement.settle(0, batch);
    }

    /// @dev Positions in calldata: selector, two words, the length, then the batch.
    uint256 internal constant AT = 4 + 3 * 32;

    function testTornBatchesAreRefused() public {
        commitThree(0);
        bytes memory batch = batchOf(0);
        bytes memory why = abi.encodeWithSelector(Batches.MalformedBatch.selector, AT);
        for (uint256 length = 1; length < batch.length; length += 7) {
            bytes memory torn = new bytes(length);
            for (uint256 i; i < length; ++i) {
                torn[i] = batch[i];
            }
            vm.prank(OPERATOR);
            (bool ok, bytes memory answer) =
                address(settlement).call(abi.encodeCall(Settlement.settle, (0, torn)));
            yes(!ok && keccak256(answer) == keccak256(why), "torn");
        }
        refusedBatch(
            bytes.concat(batch, hex"00"),
            abi.encodeWithSelector(Batches.MalformedBatch.selector, AT + batch.length)
        );
        batch[8] = 0x03;
        refusedBatch(batch, why);
        batch[8] = 0x01;
        refusedBatch(batch, why);
    }

    function testUnknownPartiesAreRefused() public {
        (Trade[] memory trades, bytes memory packed) = three();
        commit(GROUP, 0, packed);
        for (uint8 pricing; pricing < 3; ++pricing) {
            for (uint24 bad = 5; bad < 5_000_000; bad = bad * 3) {
                trades[1].seller = bad;
                refusedBatch(
                    encode(GROUP, 0, pricing, 0, packed, trades),
                    abi.encodeWithSelector(Batches.UnknownParty.selector, 1)
                );
                (trades[1].seller, trades[1].buyer) = (1, bad);
                refusedBatch(
                    encode(GROUP, 0, pricing, 0, packed, trades),
                    abi.encodeWithSelector(Batches.UnknownParty.selector, 1)
                );
                trades[1].buyer = 2;
            }
        }
        // The same where a negative price takes the general way.
        trades[2].buyer = 5;
        refusedBatch(
            encode(GROUP, 0, 0, -1, packed, trades),
            abi.encodeWithSelector(Batches.UnknownParty.selector, 2)
        );
    }

    function testMoreMembersThanTheGroupHasAreRefused() public {
        bytes memory packed = readings(new int256[](6));
        commit(GROUP, 0, packed);
        refusedBatch(
            encode(GROUP, 0, 0, 0, packed, new Trade[](0)),
            abi.encodeWithSelector(Settlement.TooManyMembers.selector, GROUP, 6)
        );
    }

    function testReadingsFromBeforeAGroupGrewStillServe() public {
        commitThree(0);
        register(GROUP, 3);
        settle(batchOf(0));
        same(settlement.balanceOf(2), 1_200_000, "seller 0");
    }

    function testValuesThatCannotBeAreRefused() public {
        Trade[] memory trades = new Trade[](2);
        uint40 most = type(uint40).max;
        int32 price = type(int32).max;
        trades[0] = Trade(0, 1, most, price, price);
        trades[1] = Trade(0, 1, most, price, price);
        bytes memory packed = readings(new int256[](5));
        commit(GROUP, 0, packed);
        bytes memory why = abi.encodeWithSelector(Batches.ValueTooLarge.selector);
        refusedBatch(encode(GROUP, 0, 0, price, packed, trades), why);
        refusedBatch(encode(GROUP, 0, 1, 0, packed, trades), why);
        refusedBatch(encode(GROUP, 0, 2, 0, packed, trades), why);
        refusedBatch(encode(GROUP, 0, 0, type(int32).min, packed, trades), why);
    }

    function settleAnd(uint8 pricing, bytes memory packed, Trade[] memory trades)
        internal
        returns (bytes memory voids)
    {
        commit(GROUP, 0, packed);
        vm.recordLogs();
        settle(encode(GROUP, 0, pricing, pricing == 0 ? int32(200_000) : int32(0), packed, trades));
        return voidsOf(settledLogs()[0]);
    }

    function testOneBadMeterVoidsItsOwnTradesOnly() public {
        (Trade[] memory trades,) = three();
        int256[] memory wh = new int256[](5);
        (wh[0], wh[1], wh[2], wh[3]) = (500, 1200, -1500, -700);
        bytes memory voids = settleAnd(0, readings(wh), trades);
        yes(keccak256(voids) == keccak256(abi.encodePacked(uint24(0), MISMATCH)), "voids");
        same(settlement.balanceOf(2), 1_000_000, "the bad one");
        same(settlement.balanceOf(3), 1_240_000, "another seller");
        same(settlement.balanceOf(4), 900_000, "its buyer pays the rest");
    }

    function testAMissingReadingVoids() public {
        (Trade[] memory trades, bytes memory packed) = three();
        bytes6 none = noReading();
        for (uint256 i; i < 6; ++i) {
            packed[12 + i] = none[i];
        }
        bytes memory voids = settleAnd(0, packed, trades);
        yes(
            keccak256(voids)
                == keccak256(
                    abi.encodePacked(uint24(0), NO_READING | BUYER, uint24(1), NO_READING | BUYER)
                ),
            "voids"
        );
        same(settlement.balanceOf(3), 1_140_000, "the third trade");
    }

    function testWashTradesAreVoid() public {
        // Net energies of zero, which any meter bears out, but money that moves one way.
        Trade[] memory trades = new Trade[](2);
        trades[0] = Trade(0, 1, 10_000, 90_000, 90_000);
        trades[1] = Trade(1, 0, 10_000, 1, 1);
        bytes memory voids = settleAnd(1, readings(new int256[](5)), trades);
        yes(
            keccak256(voids)
                == keccak256(abi.encodePacked(uint24(0), BOTH_SIDES, uint24(1), BOTH_SIDES)),
            "voids"
        );
        same(settlement.balanceOf(3), 1_000_000, "unharmed");
    }

    function testWithoutFundsTradesAreVoid() public {
        vm.prank(owner(4));
        settlement.withdraw(4, 700_001, owner(4));
        (Trade[] memory trades, bytes memory packed) = three();
        bytes memory voids = settleAnd(0, packed, trades);
        yes(
            keccak256(voids)
                == keccak256(
                    abi.encodePacked(uint24(0), NO_FUNDS | BUYER, uint24(1), NO_FUNDS | BUYER)
                ),
            "voids"
        );
        same(settlement.balanceOf(4), 299_999, "kept");
        same(settlement.balanceOf(5), 860_000, "the other buyer");
    }

    function testTheNetworkAccountTakesAndBearsDifferences() public {
        (Trade[] memory trades, bytes memory packed) = three();
        for (uint256 i; i < 3; ++i) {
            (trades[i].sellerPrice, trades[i].buyerPrice) = (100, 150);
        }
        yes(settleAnd(2, packed, trades).length == 0, "all settle");
        same(settlement.balanceOf(NETWORK), 110, "surplus");
        (, packed) = three();
        commit(GROUP, 1, packed);
        trades[0] = Trade(0, 2, 1000, 1000, 800);
        vm.recordLogs();
        settle(encode(GROUP, 1, 2, 0, packed, trades));
        bytes memory voids = voidsOf(settledLogs()[0]);
        yes(
            keccak256(voids) == keccak256(abi.encodePacked(uint24(0), NETWORK_FUNDS)),
            "what it cannot pay is void"
        );
        same(settlement.balanceOf(NETWORK), 170, "never negative");
    }

    function testAnyTradeCanBeProven() public {
        (Trade[] memory trades, bytes memory packed) = three();
        for (uint256 i; i < 3; ++i) {
            (trades[i].sellerPrice, trades[i].buyerPrice) = (-100, 150);
        }
        bytes6 none = noReading();
        for (uint256 i; i < 6; ++i) {
            packed[i] = none[i];
        }
        commit(GROUP, 0, packed);
        bytes memory batch = encode(GROUP, 0, 2, 0, packed, trades);
        vm.recordLogs();
        settle(batch);
        bytes memory voids = voidsOf(settledLogs()[0]);
        (uint8 reason,,,,,) = settlement.proveTrade(batch, 0, voids, 0);
        same(reason, NO_READING, "void");
        uint32 seller;
        uint32 buyer;
        uint256 wh;
        int256 earned;
        int256 paid;
        (reason, seller, buyer, wh, earned, paid) = settlement.proveTrade(batch, 0, voids, 2);
        same(reason, 0, "settled");
        same(seller, 3, "seller");
        same(buyer, 5, "buyer");
        same(wh, 700, "energy");
        yes(earned == -70 && paid == 105, "values");
    }

    function testNothingElseCanBeProven() public {
        commitThree(0);
        commitThree(1);
        bytes memory batch = batchOf(0);
        settle(batch);
        bytes memory why = abi.encodeWithSelector(Settlement.NoSuchRecord.selector);
        vm.expectRevert(why);
        settlement.proveTrade(batch, 1, "", 0);
        vm.expectRevert(why);
        settlement.proveTrade(batch, 0, hex"00000002", 0);
        vm.expectRevert(why);
        settlement.proveTrade(batchOf(1), 0, "", 0);
        vm.expectRevert(why);
        settlement.proveTrade(bytes.concat(batch, hex"00"), 0, "", 0);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NoSuchTrade.selector, 3));
        settlement.proveTrade(batch, 0, "", 3);
        batch[batch.length - 1] ^= 0x01;
        vm.expectRevert(why);
        settlement.proveTrade(batch, 0, "", 0);
    }

    /// @dev A byte of a batch that is not the committed one, wherever it is, is refused or shows
    /// in the record; it can never pass for the batch.
    function testFuzzTamperedBytesShow(uint256 position, uint8 change) public {
        vm.assume(change != 0);
        commitThree(0);
        bytes memory batch = batchOf(0);
        bytes32 honest = bytes32(uint256(keccak256(bytes.concat(batch, bytes8(0)))) | 1);
        position %= batch.length;
        batch[position] = bytes1(uint8(batch[position]) ^ change);
        vm.prank(OPERATOR);
        try settlement.settle(0, batch) {
            yes(settlement.recordOf(GROUP, 0) != honest, "record");
            yes(position >= 9, "header");
            yes(position < 19 || position >= 19 + 30, "readings");
        } catch {
            yes(settlement.recordOf(GROUP, 0) == 0, "nothing settled");
        }
    }
}
