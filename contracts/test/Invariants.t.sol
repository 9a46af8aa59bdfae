// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";
import {Base} from "./Base.sol";
import {Vm} from "./Vm.sol";

/// @dev Does what parties, honest and hostile, may do in any order. Where a call must succeed its
/// failure fails the test; a hostile call that succeeds is counted.
contract Handler is Base {
    uint32 internal constant GROUPS = 2;

    struct Settled {
        uint32 group;
        uint32 period;
        bytes32 record;
        bytes batch;
        uint64 sequence;
        bytes voids;
    }

    Settled[] internal _settled;
    /// Readings committed and not yet settled, by group and period.
    mapping(uint256 batchId => int256[]) internal _metered;
    uint32[2] internal _nextPeriod;

    uint256 public minted;
    uint256 public hostileSuccesses;
    uint256 public beyondMeters;
    uint256 public voided;
    uint256 public settledTrades;

    function setUp() public override {
        super.setUp();
        minted = token.balanceOf(OPERATOR);
        register(0, 5);
        register(1, 6);
        fundAll(2_000_000);
        deposit(NETWORK, 50_000);
    }

    function target() external view returns (Settlement, TestToken) {
        return (settlement, token);
    }

    function settledCount() external view returns (uint256) {
        return _settled.length;
    }

    function settledAt(uint256 i) external view returns (Settled memory) {
        return _settled[i];
    }

    // Honest calls -------------------------------------------------------------------------

    function depositSome(uint32 participant, uint64 amount) external {
        if (settlement.paused()) return;
        amount %= 3_000_000;
        uint32 to = participant % (settlement.participants() + 1);
        deposit(to == settlement.participants() ? NETWORK : to, amount);
    }

    /// @dev Works whether paused or not.
    function withdrawSome(uint32 participant, uint256 amount) external {
        uint32 from = participant % settlement.participants();
        amount = amount % (settlement.balanceOf(from) + 1);
        address holder = settlement.ownerOf(from);
        uint256 before = token.balanceOf(holder);
        vm.prank(holder);
        settlement.withdraw(from, amount, holder);
        same(token.balanceOf(holder), before + amount, "withdrawn");
    }

    function togglePause(uint8 chance) external {
        bool stop = chance % 8 == 0;
        vm.prank(PAUSER);
        settlement.setPaused(stop);
    }

    function growLatestGroup(uint8 chance) external {
        if (settlement.paused() || chance % 8 != 0) return;
        register(GROUPS - 1, 1);
    }

    function meterPeriod(uint8 group, int16[8] calldata wh) external {
        if (settlement.paused()) return;
        uint32 g = group % GROUPS;
        (, uint32 size) = settlement.groupOf(g);
        int256[] memory metered = new int256[](size < 8 ? size : 8);
        for (uint256 i; i < metered.length; ++i) {
            metered[i] = wh[i];
        }
        uint32 period = _nextPeriod[g]++;
        _metered[_id(g, period)] = metered;
        commit(g, period, readings(metered));
    }

    /// @dev Settles trades that the readings bear out in part, at any prices.
    function settlePeriod(uint8 group, uint8 pricing, uint256 seed) external {
        if (settlement.paused()) return;
        uint32 g = group % GROUPS;
        uint32 period;
        while (period < _nextPeriod[g] && _metered[_id(g, period)].length == 0) ++period;
        if (period == _nextPeriod[g]) return;
        int256[] memory metered = _metered[_id(g, period)];
        Trade[] memory trades = _trades(metered, seed);
        bytes memory batch = encode(
            g,
            period,
            pricing % 3,
            pricing % 3 == 0 ? _price(seed) : int32(0),
            readings(metered),
            trades
        );
        uint64 sequence = settlement.nextSequence();
        vm.recordLogs();
        settle(batch);
        bytes memory voids = voidsOf(settledLogs()[0]);
        delete _metered[_id(g, period)];
        bytes32 record = settlement.recordOf(g, period);
        _settled.push(Settled(g, period, record, batch, sequence, voids));
        voided += voids.length / 4;
        settledTrades += trades.length - voids.length / 4;
        _checkAgainstMeters(metered, trades, voids);
    }

    // Hostile calls ------------------------------------------------------------------------

    function replay(uint256 which, bool stale) external {
        if (_settled.length == 0) return;
        Settled storage old = _settled[which % _settled.length];
        uint64 sequence = stale ? old.sequence : settlement.nextSequence();
        _attack(OPERATOR, abi.encodeCall(Settlement.settle, (sequence, old.batch)));
    }

    function settleOutOfOrder(uint64 ahead) external {
        uint64 sequence = settlement.nextSequence();
        ahead = ahead % 1000;
        _attack(OPERATOR, abi.encodeCall(Settlement.settle, (sequence + 1 + ahead, "")));
    }

    /// @dev The operator alone, with readings that no meter authority committed.
    function settleUnmetered(uint8 group, uint32 period, uint40 wh) external {
        int256[] memory own = new int256[](2);
        (own[0], own[1]) = (int256(uint256(wh)), -int256(uint256(wh)));
        Trade[] memory trades = new Trade[](1);
        trades[0] = Trade(0, 1, wh, 1000, 1000);
        bytes memory batch = encode(group % GROUPS, period, 1, 0, readings(own), trades);
        bytes memory call = abi.encodeCall(Settlement.settle, (settlement.nextSequence(), batch));
        _attack(OPERATOR, call);
    }

    function settleAsAnother(uint8 who) external {
        address[5] memory others = [AUTHORITY, REGISTRAR, PAUSER, ADMIN, STRANGER];
        bytes memory call = abi.encodeCall(Settlement.settle, (settlement.nextSequence(), ""));
        _attack(others[who % 5], call);
    }

    function commitAsOperator(uint32 period, bytes32 hash) external {
        bytes memory entry = bytes.concat(bytes4(0), bytes4(period), hash);
        _attack(OPERATOR, abi.encodeCall(Settlement.commitReadings, (entry)));
    }

    function recommit(uint8 group, uint256 which) external {
        uint32 g = group % GROUPS;
        if (_nextPeriod[g] == 0) return;
        uint32 period = uint32(which % _nextPeriod[g]);
        bytes memory entry = bytes.concat(bytes4(g), bytes4(period), bytes32(which));
        _attack(AUTHORITY, abi.encodeCall(Settlement.commitReadings, (entry)));
    }

    function stealWithdrawal(uint32 participant, uint8 who, uint64 amount) external {
        address[5] memory thieves = [OPERATOR, AUTHORITY, REGISTRAR, ADMIN, STRANGER];
        address thief = thieves[who % 5];
        uint32 from = participant % settlement.participants();
        _attack(thief, abi.encodeCall(settlement.withdraw, (from, amount, thief)));
    }

    function overdraw(uint32 participant, uint64 more) external {
        uint32 from = participant % settlement.participants();
        uint256 amount = settlement.balanceOf(from) + 1 + more;
        address holder = settlement.ownerOf(from);
        _attack(holder, abi.encodeCall(settlement.withdraw, (from, amount, holder)));
    }

    function actWhilePaused(uint8 what) external {
        if (!settlement.paused()) return;
        bytes[4] memory calls = [
            abi.encodeCall(Settlement.settle, (settlement.nextSequence(), "")),
            abi.encodeCall(settlement.deposit, (0, 1)),
            abi.encodeCall(settlement.fund, (0, hex"0000000000000001")),
            abi.encodeCall(Settlement.commitReadings, (""))
        ];
        _attack(what % 4 == 3 ? AUTHORITY : OPERATOR, calls[what % 4]);
    }

    /// @dev Tokens that nobody asked for change no balance.
    function donate(uint64 amount) external {
        amount %= 1000;
        vm.prank(OPERATOR);
        token.transfer(address(settlement), amount);
    }

    // Helpers ------------------------------------------------------------------------------

    function _attack(address from, bytes memory call) private {
        vm.prank(from);
        (bool ok,) = address(settlement).call(call);
        if (ok) ++hostileSuccesses;
    }

    function _id(uint32 group, uint32 period) private pure returns (uint256) {
        return (uint256(group) << 32) | period;
    }

    function _price(uint256 seed) private pure returns (int32) {
        return int32(int256(uint256(keccak256(abi.encode(seed))) % 1_000_000) - 200_000);
    }

    /// @dev Trades that mostly add up to the readings, some of them wild.
    function _trades(int256[] memory metered, uint256 seed)
        private
        pure
        returns (Trade[] memory trades)
    {
        trades = new Trade[](6);
        int256[] memory left = new int256[](metered.length);
        for (uint256 i; i < left.length; ++i) {
            left[i] = metered[i];
        }
        for (uint256 k; k < 6; ++k) {
            uint256 dice = uint256(keccak256(abi.encode(seed, k)));
            uint256 seller = dice % metered.length;
            uint256 buyer = (dice >> 16) % metered.length;
            int256 wh = left[seller] < -left[buyer] ? left[seller] : -left[buyer];
            if (wh < 0) wh = 0;
            if ((dice >> 32) % 8 == 0) wh = int256((dice >> 40) % 5000);
            left[seller] -= wh;
            left[buyer] += wh;
            trades[k] = Trade(
                uint24(seller), uint24(buyer), uint40(uint256(wh)), _price(dice), _price(dice >> 1)
            );
        }
        // What is left goes from the last seller to the last buyer, where there are both.
        for (uint256 i; i < left.length; ++i) {
            for (uint256 j; j < left.length && left[i] > 0; ++j) {
                if (left[j] >= 0) continue;
                int256 wh = left[i] < -left[j] ? left[i] : -left[j];
                Trade[] memory more = new Trade[](trades.length + 1);
                for (uint256 k; k < trades.length; ++k) {
                    more[k] = trades[k];
                }
                int32 price = _price(uint256(keccak256(abi.encode(seed, i, j))));
                more[trades.length] =
                    Trade(uint24(i), uint24(j), uint40(uint256(wh)), price, price + 5);
                trades = more;
                left[i] -= wh;
                left[j] += wh;
            }
        }
    }

    /// @dev Counts participants whose settled energy is beyond reading and tolerance.
    function _checkAgainstMeters(int256[] memory metered, Trade[] memory trades, bytes memory voids)
        private
    {
        int256[] memory net = new int256[](metered.length);
        uint256 cursor;
        for (uint256 k; k < trades.length; ++k) {
            if (cursor < voids.length && _voidAt(voids, cursor) == k) {
                cursor += 4;
                continue;
            }
            net[trades[k].seller] += int256(uint256(trades[k].wh));
            net[trades[k].buyer] -= int256(uint256(trades[k].wh));
        }
        for (uint256 i; i < net.length; ++i) {
            uint256 settledWh = uint256(net[i] < 0 ? -net[i] : net[i]);
            uint256 meteredWh = uint256(metered[i] < 0 ? -metered[i] : metered[i]);
            uint256 most = (meteredWh + TOLERANCE_WH) * 1e6 + meteredWh * TOLERANCE_PPM;
            if (settledWh * 1e6 > most) ++beyondMeters;
        }
    }

    function _voidAt(bytes memory voids, uint256 cursor) private pure returns (uint256) {
        return (uint256(uint8(voids[cursor])) << 16) | (uint256(uint8(voids[cursor + 1])) << 8)
            | uint8(voids[cursor + 2]);
    }
}

/// @dev What holds after any such calls.
contract InvariantsTest {
    Handler private _handler;
    Settlement private _settlement;
    TestToken private _token;

    error Broken(string what, uint256 found, uint256 expected);

    function setUp() public {
        _handler = new Handler();
        _handler.setUp();
        (_settlement, _token) = _handler.target();
    }

    /// @dev The handler's own batches settle in part and are void in part, or it shows little.
    function testTheHandlerSettlesAndVoids() public {
        int16[8] memory wh = [int16(900), -400, 700, -1200, 300, -300, 0, 0];
        for (uint256 seed; seed < 20; ++seed) {
            _handler.meterPeriod(uint8(seed), wh);
            _handler.settlePeriod(uint8(seed), uint8(seed / 2), seed);
        }
        if (_handler.settledTrades() < 20) revert Broken("settled", _handler.settledTrades(), 20);
        if (_handler.voided() < 20) revert Broken("void", _handler.voided(), 20);
        invariantMoneyIsConserved();
        invariantNothingSettlesTwice();
        invariantNothingSettlesBeyondMeters();
    }

    /// @dev Only the handler's calls; forge asks for this by name.
    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](16);
        selectors[0] = Handler.depositSome.selector;
        selectors[1] = Handler.withdrawSome.selector;
        selectors[2] = Handler.togglePause.selector;
        selectors[3] = Handler.growLatestGroup.selector;
        selectors[4] = Handler.meterPeriod.selector;
        selectors[5] = Handler.settlePeriod.selector;
        selectors[6] = Handler.replay.selector;
        selectors[7] = Handler.settleOutOfOrder.selector;
        selectors[8] = Handler.settleUnmetered.selector;
        selectors[9] = Handler.settleAsAnother.selector;
        selectors[10] = Handler.commitAsOperator.selector;
        selectors[11] = Handler.recommit.selector;
        selectors[12] = Handler.stealWithdrawal.selector;
        selectors[13] = Handler.overdraw.selector;
        selectors[14] = Handler.actWhilePaused.selector;
        selectors[15] = Handler.donate.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_handler), selectors);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariantMoneyIsConserved() public view {
        uint256 sum = _settlement.balanceOf(type(uint32).max);
        uint256 escrow = _settlement.escrowMicro();
        for (uint32 i; i < _settlement.participants(); ++i) {
            uint256 balance = _settlement.balanceOf(i);
            if (balance > escrow) revert Broken("a balance below zero", balance, escrow);
            sum += balance;
        }
        if (sum != escrow) revert Broken("sum of balances", sum, escrow);
        uint256 held = _token.balanceOf(address(_settlement));
        if (held < escrow) revert Broken("tokens held", held, escrow);
    }

    function invariantNothingSettlesTwice() public view {
        uint256 count = _handler.settledCount();
        if (_settlement.nextSequence() != count) {
            revert Broken("sequence", _settlement.nextSequence(), count);
        }
        for (uint256 i; i < count; ++i) {
            Handler.Settled memory old = _handler.settledAt(i);
            bytes32 record = _settlement.recordOf(old.group, old.period);
            if (record != old.record) revert Broken("record", uint256(record), i);
        }
    }

    function invariantEverySettledTradeCanBeProven() public view {
        uint256 count = _handler.settledCount();
        if (count == 0) return;
        Handler.Settled memory last = _handler.settledAt(count - 1);
        uint24 trades = uint24(bytes3(_slice(last.batch, 16)));
        if (trades > 0) {
            _settlement.proveTrade(last.batch, last.sequence, last.voids, trades - 1);
        }
    }

    function invariantNothingSettlesBeyondMeters() public view {
        uint256 found = _handler.beyondMeters();
        if (found != 0) revert Broken("participants beyond their meters", found, 0);
    }

    function invariantNoHostileCallSucceeds() public view {
        uint256 found = _handler.hostileSuccesses();
        if (found != 0) revert Broken("hostile calls that succeeded", found, 0);
    }

    function _slice(bytes memory data, uint256 from) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 32), from))
        }
    }
}
