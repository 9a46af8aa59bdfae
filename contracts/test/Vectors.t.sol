// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Vm} from "./Vm.sol";

/// @dev The batches that Python made (scripts/contract_vectors.py) do here what they do there.
contract VectorsTest is Base {
    string private _json;

    function setUp() public override {
        _json = vm.readFile("vectors/batches.json");
        same(vm.parseJsonUint(_json, ".toleranceWh"), TOLERANCE_WH, "tolerance");
        same(vm.parseJsonUint(_json, ".tolerancePpm"), TOLERANCE_PPM, "tolerance");
    }

    function testVectors() public {
        uint256 count = vm.parseJsonUint(_json, ".count");
        yes(count > 15, "vectors");
        for (uint256 i; i < count; ++i) {
            _run(string.concat(".vectors[", vm.toString(i), "]"));
        }
    }

    function _run(string memory key) private {
        super.setUp();
        uint256 firstId = _uint(key, ".firstId");
        uint256[] memory balances = _uints(key, ".balances");
        uint32 group = uint32(_uint(key, ".group"));
        uint32 period = uint32(_uint(key, ".period"));
        if (firstId > 0) register(0, firstId);
        same(register(group, balances.length), firstId, "first id");
        for (uint32 i; i < balances.length; ++i) {
            deposit(uint32(firstId) + i, balances[i]);
        }
        deposit(NETWORK, _uint(key, ".network"));
        bytes32 hash = bytes32(vm.parseJsonBytes(_json, string.concat(key, ".readingsHash")));
        vm.prank(AUTHORITY);
        settlement.commitReadings(bytes.concat(bytes4(group), bytes4(period), hash));
        vm.recordLogs();
        settle(vm.parseJsonBytes(_json, string.concat(key, ".batch")));
        _checkEvent(key, settledLogs()[0]);
        uint256[] memory expected = _uints(key, ".balancesAfter");
        for (uint32 i; i < balances.length; ++i) {
            same(settlement.balanceOf(uint32(firstId) + i), expected[i], "balance");
        }
        same(settlement.balanceOf(NETWORK), _uint(key, ".networkAfter"), "network account");
        bytes32 record = bytes32(vm.parseJsonBytes(_json, string.concat(key, ".record")));
        yes(settlement.recordOf(group, period) == record, "record");
    }

    function _checkEvent(string memory key, Vm.Log memory log) private view {
        (, uint256 settled, uint256 energyWh, int256 network, bytes memory voids) =
            abi.decode(log.data, (bytes32, uint256, uint256, int256, bytes));
        bytes memory expected = vm.parseJsonBytes(_json, string.concat(key, ".voids"));
        yes(keccak256(voids) == keccak256(expected), "void trades");
        same(settled, _uint(key, ".settled"), "settled");
        same(energyWh, _uint(key, ".energyWh"), "energy");
        int256 change = int256(_uint(key, ".networkAfter")) - int256(_uint(key, ".network"));
        yes(network == change, "network");
    }

    function _uint(string memory key, string memory name) private view returns (uint256) {
        return vm.parseJsonUint(_json, string.concat(key, name));
    }

    function _uints(string memory key, string memory name) private view returns (uint256[] memory) {
        return vm.parseJsonUintArray(_json, string.concat(key, name));
    }
}
