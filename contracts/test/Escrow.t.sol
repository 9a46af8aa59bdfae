// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Escrow} from "../src/Escrow.sol";
import {Registry} from "../src/Registry.sol";
import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";
import {Base} from "./Base.sol";

/// @dev A token that misbehaves as it is told.
contract HostileToken is ERC20 {
    uint8 private immutable _decimals;
    uint256 public fee;
    Escrow public target;
    bytes public callback;

    constructor(uint8 decimals_) ERC20("hostile", "H") {
        _decimals = decimals_;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setFee(uint256 fee_) external {
        fee = fee_;
    }

    function setCallback(Escrow target_, bytes calldata data) external {
        (target, callback) = (target_, data);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (address(target) != address(0)) {
            (bool ok, bytes memory answer) = address(target).call(callback);
            if (!ok) {
                assembly ("memory-safe") {
                    revert(add(answer, 32), mload(answer))
                }
            }
        }
        super._update(from, to, amount);
        if (fee != 0 && from != address(0) && to != address(0xFEE)) {
            super._update(to, address(0xFEE), fee);
        }
    }
}

contract EscrowTest is Base {
    function setUp() public override {
        super.setUp();
        register(0, 10);
    }

    function testParticipantsDepositAndWithdrawThemselves() public {
        token.mint(owner(6), 500);
        vm.prank(owner(6));
        token.approve(address(settlement), 500);
        vm.prank(owner(6));
        settlement.deposit(6, 500);
        same(settlement.balanceOf(6), 500, "deposited");
        same(settlement.escrowMicro(), 500, "escrow");
        vm.prank(owner(6));
        settlement.withdraw(6, 200, STRANGER);
        same(settlement.balanceOf(6), 300, "left");
        same(token.balanceOf(STRANGER), 200, "withdrawn");
        same(token.balanceOf(address(settlement)), 300, "held");
        same(settlement.escrowMicro(), 300, "escrow");
    }

    function testOnlyOwnersWithdraw() public {
        fundAll(100);
        address[5] memory others = [OPERATOR, ADMIN, REGISTRAR, owner(2), STRANGER];
        for (uint256 i; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(abi.encodeWithSelector(Registry.NotOwner.selector, 1, others[i]));
            settlement.withdraw(1, 1, others[i]);
        }
    }

    function testNobodyWithdrawsMoreThanItHas() public {
        fundAll(100);
        vm.prank(owner(1));
        vm.expectRevert(abi.encodeWithSelector(Escrow.BalanceTooLow.selector, 1, 100));
        settlement.withdraw(1, 101, owner(1));
        vm.prank(owner(1));
        vm.expectRevert(abi.encodeWithSelector(Escrow.BalanceTooLow.selector, 1, 100));
        settlement.withdraw(1, (1 << 64) + 1, owner(1));
    }

    function testTheNetworkAccountIsAnAccountToo() public {
        deposit(NETWORK, 77);
        same(settlement.balanceOf(NETWORK), 77, "deposited");
        vm.prank(NETWORK_OWNER);
        settlement.withdraw(NETWORK, 77, NETWORK_OWNER);
        same(token.balanceOf(NETWORK_OWNER), 77, "withdrawn");
    }

    function testDepositsForNobodyAreRefused() public {
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Registry.UnknownParticipant.selector, 10));
        settlement.deposit(10, 1);
    }

    function testFundsFollowIds() public {
        bytes memory amounts;
        for (uint64 i; i < 6; ++i) {
            amounts = bytes.concat(amounts, bytes8(100 + i));
        }
        // What stands behind the amounts in calldata must not count.
        vm.prank(OPERATOR);
        settlement.fund(4, amounts);
        for (uint32 i; i < 6; ++i) {
            same(settlement.balanceOf(4 + i), 100 + i, "funded");
        }
        for (uint32 i; i < 4; ++i) {
            same(settlement.balanceOf(i), 0, "not funded");
        }
        same(settlement.escrowMicro(), 615, "escrow");
        uint256[] memory words = settlement.balanceWords(1, 2);
        same(words[0] >> 192, 100, "lowest id first");
        same(words[1], (uint256(104) << 192) | (uint256(105) << 128), "half a word");
    }

    function testMalformedFundsAreRefused() public {
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Escrow.MalformedAmounts.selector, 2, 8));
        settlement.fund(2, new bytes(8));
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Escrow.MalformedAmounts.selector, 0, 9));
        settlement.fund(0, new bytes(9));
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Registry.UnknownParticipant.selector, 12));
        settlement.fund(8, new bytes(32));
    }

    function testTheEscrowCannotOverflow() public {
        token.mint(OPERATOR, 1 << 63);
        deposit(0, (1 << 63) - 1);
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Escrow.EscrowFull.selector));
        settlement.deposit(1, 1);
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Escrow.EscrowFull.selector));
        settlement.fund(0, hex"0000000000000001");
        // Amounts that would carry from one balance into the next.
        vm.prank(OPERATOR);
        (bool ok,) = address(settlement)
            .call(abi.encodeCall(Escrow.fund, (0, hex"0000000000000000ffffffffffffffff")));
        yes(!ok, "a carry is refused");
        same(settlement.balanceOf(0), (1 << 63) - 1, "unchanged");
    }

    function testFuzzAddedAmountsStayInTheirAccounts(uint32[10] memory amounts, uint32 more)
        public
    {
        bytes memory packed;
        for (uint256 i; i < 10; ++i) {
            packed = bytes.concat(packed, bytes8(uint64(amounts[i])));
        }
        vm.prank(OPERATOR);
        settlement.fund(0, packed);
        uint32 chosen = more % 10;
        deposit(chosen, more);
        uint256 sum;
        for (uint32 i; i < 10; ++i) {
            uint256 expected = uint256(amounts[i]) + (i == chosen ? more : 0);
            same(settlement.balanceOf(i), expected, "balance");
            sum += expected;
        }
        same(settlement.escrowMicro(), sum, "escrow");
        same(token.balanceOf(address(settlement)), sum, "held");
    }

    function testOtherDecimalsAreRefused() public {
        Settlement.Parameters memory p = parameters();
        p.token = new HostileToken(18);
        refusedDeployment(p, abi.encodeWithSelector(Escrow.TokenDecimals.selector, 18));
    }

    function hostile() internal returns (HostileToken bad) {
        bad = new HostileToken(6);
        Settlement.Parameters memory p = parameters();
        p.token = bad;
        settlement = Settlement(deploy("Settlement", abi.encode(p)));
        register(0, 4);
        bad.mint(OPERATOR, 1000);
        vm.prank(OPERATOR);
        bad.approve(address(settlement), 1000);
    }

    function testWhatATokenTakesAsAFeeIsNotCredited() public {
        HostileToken bad = hostile();
        bad.setFee(3);
        deposit(0, 100);
        same(settlement.balanceOf(0), 97, "what arrived");
        vm.prank(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Escrow.FundingShort.selector, 10, 7));
        settlement.fund(0, hex"000000000000000a");
    }

    function testNobodyComesInTwice() public {
        HostileToken bad = hostile();
        deposit(0, 100);
        bytes memory again =
            abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        bytes[3] memory calls = [
            abi.encodeCall(Escrow.deposit, (1, 0)),
            abi.encodeCall(Escrow.withdraw, (0, 1, STRANGER)),
            abi.encodeCall(Escrow.fund, (0, ""))
        ];
        for (uint256 i; i < calls.length; ++i) {
            bad.setCallback(settlement, calls[i]);
            vm.prank(OPERATOR);
            vm.expectRevert(again);
            settlement.deposit(1, 5);
            vm.prank(owner(0));
            vm.expectRevert(again);
            settlement.withdraw(0, 5, owner(0));
        }
    }

    function testOnlyTheMinterPrints() public {
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(TestToken.NotMinter.selector, STRANGER));
        token.mint(STRANGER, 1);
    }
}
