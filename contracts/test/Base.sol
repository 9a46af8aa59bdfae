// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";
import {Vm} from "./Vm.sol";

/// @dev A settlement with all its parties, and batches made by hand.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address internal constant ADMIN = address(0xAD);
    address internal constant REGISTRAR = address(0x4E);
    address internal constant OPERATOR = address(0x09);
    address internal constant AUTHORITY = address(0xA0);
    address internal constant PAUSER = address(0xBA);
    address internal constant NETWORK_OWNER = address(0x4E7);
    address internal constant STRANGER = address(0x57A);

    uint64 internal constant TOLERANCE_WH = 10;
    uint32 internal constant TOLERANCE_PPM = 20_000;
    uint32 internal constant NETWORK = type(uint32).max;

    /// Prices of one side each, used as the batch's pricing asks.
    struct Trade {
        uint24 seller;
        uint24 buyer;
        uint40 wh;
        int32 sellerPrice;
        int32 buyerPrice;
    }

    TestToken internal token;
    Settlement internal settlement;

    error Unequal(string what, uint256 found, uint256 expected);
    error Untrue(string what);

    function setUp() public virtual {
        token = TestToken(deploy("TestToken", ""));
        settlement = Settlement(deploy("Settlement", abi.encode(parameters())));
        token.mint(OPERATOR, 1e18);
        vm.prank(OPERATOR);
        token.approve(address(settlement), type(uint256).max);
    }

    /// @dev Deploys the code in artifacts/, so that what ships is what is tested, and the compiler
    /// need not put all of it into every test. Reverts as the constructor does.
    function deploy(string memory name, bytes memory arguments) internal returns (address made) {
        string memory artifact = vm.readFile(string.concat("artifacts/", name, ".json"));
        bytes memory code = bytes.concat(vm.parseJsonBytes(artifact, ".bytecode"), arguments);
        assembly ("memory-safe") {
            made := create(0, add(code, 32), mload(code))
            if iszero(made) {
                let answer := mload(0x40)
                returndatacopy(answer, 0, returndatasize())
                revert(answer, returndatasize())
            }
        }
    }

    /// @dev A constructor that must revert; forge's own cheat cannot be used on it, since reading
    /// the artifact is a call too.
    function refusedDeployment(Settlement.Parameters memory p, bytes memory why) internal {
        try this.deploySettlement(p) {
            revert Untrue("refused");
        } catch (bytes memory answer) {
            yes(keccak256(answer) == keccak256(why), "the reason");
        }
    }

    function deploySettlement(Settlement.Parameters calldata p) external {
        deploy("Settlement", abi.encode(p));
    }

    function parameters() internal view returns (Settlement.Parameters memory) {
        return Settlement.Parameters({
            token: token,
            admin: ADMIN,
            registrar: REGISTRAR,
            operator: OPERATOR,
            meterAuthority: AUTHORITY,
            pauser: PAUSER,
            networkOwner: NETWORK_OWNER,
            toleranceWh: TOLERANCE_WH,
            tolerancePpm: TOLERANCE_PPM
        });
    }

    function same(uint256 found, uint256 expected, string memory what) internal pure {
        if (found != expected) revert Unequal(what, found, expected);
    }

    function yes(bool found, string memory what) internal pure {
        if (!found) revert Untrue(what);
    }

    function owner(uint256 participant) internal pure returns (address) {
        return address(uint160(0x1000000 + participant));
    }

    function meter(uint256 participant) internal pure returns (address) {
        return address(uint160(0x2000000 + participant));
    }

    function accounts(uint256 first, uint256 size) internal pure returns (bytes memory packed) {
        for (uint256 i; i < size; ++i) {
            packed = bytes.concat(packed, bytes20(owner(first + i)), bytes20(meter(first + i)));
        }
    }

    function register(uint32 group, uint256 size) internal returns (uint32 first) {
        bytes memory packed = accounts(settlement.participants(), size);
        vm.prank(REGISTRAR);
        return settlement.register(group, packed);
    }

    function fundAll(uint64 each) internal {
        uint256 size = settlement.participants();
        bytes memory amounts;
        for (uint256 i; i < size; ++i) {
            amounts = bytes.concat(amounts, bytes8(each));
        }
        vm.prank(OPERATOR);
        settlement.fund(0, amounts);
    }

    function deposit(uint32 participant, uint256 amount) internal {
        vm.prank(OPERATOR);
        settlement.deposit(participant, amount);
    }

    function reading(int256 wh) internal pure returns (bytes6) {
        return bytes6(wh < 0 ? uint48(1 << 47) | uint48(uint256(-wh)) : uint48(uint256(wh)));
    }

    function noReading() internal pure returns (bytes6) {
        return bytes6(uint48(1 << 47));
    }

    function readings(int256[] memory wh) internal pure returns (bytes memory packed) {
        for (uint256 i; i < wh.length; ++i) {
            packed = bytes.concat(packed, reading(wh[i]));
        }
    }

    function commit(uint32 group, uint32 period, bytes memory packed) internal {
        vm.prank(AUTHORITY);
        settlement.commitReadings(bytes.concat(bytes4(group), bytes4(period), keccak256(packed)));
    }

    function settle(bytes memory batches) internal {
        uint64 sequence = settlement.nextSequence();
        vm.prank(OPERATOR);
        settlement.settle(sequence, batches);
    }

    /// @dev Pricing 0: `price` for all; 1: each trade's seller's price; 2: both its prices.
    function encode(
        uint32 group,
        uint32 period,
        uint8 pricing,
        int32 price,
        bytes memory packedReadings,
        Trade[] memory trades
    ) internal pure returns (bytes memory batch) {
        batch = bytes.concat(
            bytes4(group),
            bytes4(period),
            bytes1(pricing),
            bytes4(uint32(price)),
            bytes3(uint24(packedReadings.length / 6)),
            bytes3(uint24(trades.length)),
            packedReadings
        );
        for (uint256 i; i < trades.length; ++i) {
            Trade memory t = trades[i];
            batch = bytes.concat(batch, bytes3(t.seller), bytes3(t.buyer), bytes5(t.wh));
            if (pricing > 0) batch = bytes.concat(batch, bytes4(uint32(t.sellerPrice)));
            if (pricing > 1) batch = bytes.concat(batch, bytes4(uint32(t.buyerPrice)));
        }
    }

    /// @dev The records and void trades of the batches that settled since `vm.recordLogs`.
    function settledLogs() internal returns (Vm.Log[] memory found) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 count;
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] == Settlement.BatchSettled.selector) logs[count++] = logs[i];
        }
        found = new Vm.Log[](count);
        for (uint256 i; i < count; ++i) {
            found[i] = logs[i];
        }
    }

    function voidsOf(Vm.Log memory log) internal pure returns (bytes memory voids) {
        (,,,, voids) = abi.decode(log.data, (bytes32, uint256, uint256, int256, bytes));
    }
}
