// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {StoredTrades} from "../src/bench/StoredTrades.sol";
import {Base} from "./Base.sol";

/// @dev What whole transactions cost, calldata and base fee included, kept in snapshots/. Each
/// call is a transaction of its own here, so that storage is as cold as it is on a chain.
/// forge-config: default.isolate = true
contract GasTest is Base {
    uint256 internal constant MEMBERS = 100;
    uint256 internal constant TRADES = 500;

    function setUp() public override {
        super.setUp();
        register(0, MEMBERS);
        fundAll(1_000_000_000);
        deposit(NETWORK, 1_000_000_000);
        // So that no word is written for the first time in what is measured.
        settlePricing(0, 0);
    }

    /// @dev Every participant trades; sellers are the first third.
    function dayTrades() internal pure returns (Trade[] memory trades, bytes memory packed) {
        trades = new Trade[](TRADES);
        int256[] memory wh = new int256[](MEMBERS);
        for (uint256 k; k < TRADES; ++k) {
            uint256 seller = k % 33;
            uint256 buyer = 33 + k % 67;
            uint256 energy = 200 + (k * 7919) % 3000;
            trades[k] = Trade(uint24(seller), uint24(buyer), uint40(energy), 210_000, 215_000);
            wh[seller] += int256(energy);
            wh[buyer] -= int256(energy);
        }
        packed = readings(wh);
    }

    function settlePricing(uint32 period, uint8 pricing) internal returns (bytes memory packed) {
        Trade[] memory trades;
        (trades, packed) = dayTrades();
        commit(0, period, packed);
        settle(encode(0, period, pricing, pricing == 0 ? int32(210_000) : int32(0), packed, trades));
    }

    function testGasOfRegisteringAndFunding() public {
        bytes memory packed = accounts(MEMBERS, 600);
        vm.prank(REGISTRAR);
        settlement.register(1, packed);
        vm.snapshotGasLastCall("settlement", "register 600 participants");
        bytes memory amounts;
        for (uint256 i; i < 600; ++i) {
            amounts = bytes.concat(amounts, bytes8(uint64(1e9)));
        }
        vm.prank(OPERATOR);
        settlement.fund(uint32(MEMBERS), amounts);
        vm.snapshotGasLastCall("settlement", "fund 600 participants");
        deposit(0, 1_000_000);
        vm.snapshotGasLastCall("settlement", "deposit");
        vm.prank(owner(0));
        settlement.withdraw(0, 1_000_000, owner(0));
        vm.snapshotGasLastCall("settlement", "withdraw");
    }

    function testGasOfCommitting() public {
        (, bytes memory packed) = dayTrades();
        commit(0, 1, packed);
        vm.snapshotGasLastCall("settlement", "commit 1 period");
        bytes memory day;
        for (uint32 period = 2; period < 26; ++period) {
            day = bytes.concat(day, bytes4(0), bytes4(period), keccak256(packed));
        }
        vm.prank(AUTHORITY);
        settlement.commitReadings(day);
        vm.snapshotGasLastCall("settlement", "commit 24 periods");
    }

    function testGasOfOnePrice() public {
        settlePricing(1, 0);
        vm.snapshotGasLastCall("settlement", "settle 500 trades of 100, one price");
    }

    function testGasOfPricesPerTrade() public {
        settlePricing(1, 1);
        vm.snapshotGasLastCall("settlement", "settle 500 trades of 100, a price each");
    }

    function testGasOfLocationalPrices() public {
        settlePricing(1, 2);
        vm.snapshotGasLastCall("settlement", "settle 500 trades of 100, two prices each");
    }

    function testGasOfABadMeter() public {
        (Trade[] memory trades, bytes memory packed) = dayTrades();
        packed[5] ^= 0x80;
        packed[4] ^= 0x80;
        commit(0, 1, packed);
        settle(encode(0, 1, 0, 210_000, packed, trades));
        vm.snapshotGasLastCall("settlement", "settle 500 trades of 100, one meter off");
    }

    function testGasOfFourPeriodsAtOnce() public {
        bytes memory batches;
        (Trade[] memory trades, bytes memory packed) = dayTrades();
        for (uint32 period = 1; period < 5; ++period) {
            commit(0, period, packed);
            batches = bytes.concat(batches, encode(0, period, 0, 210_000, packed, trades));
        }
        settle(batches);
        vm.snapshotGasLastCall("settlement", "settle 4 x 500 trades of 100, one price");
    }

    function testGasOfStoringStructs() public {
        StoredTrades plain = new StoredTrades();
        (Trade[] memory trades,) = dayTrades();
        StoredTrades.Trade[] memory stored = new StoredTrades.Trade[](100);
        for (uint256 k; k < 100; ++k) {
            stored[k] =
                StoredTrades.Trade(trades[k].seller, trades[k].buyer, 1, trades[k].wh, 210_000, 0);
        }
        plain.settle(stored);
        plain.settle(stored);
        vm.snapshotGasLastCall("plain", "store 100 trades as structs");
    }
}
