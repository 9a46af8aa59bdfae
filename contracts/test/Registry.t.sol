// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Registry} from "../src/Registry.sol";
import {Roles} from "../src/Roles.sol";
import {Settlement} from "../src/Settlement.sol";
import {State} from "../src/State.sol";
import {Base} from "./Base.sol";

contract RegistryTest is Base {
    function testIdsAreGivenInARow() public {
        same(register(7, 3), 0, "first of group 7");
        same(register(9, 5), 3, "first of group 9");
        same(register(9, 2), 8, "group 9 grows");
        same(settlement.participants(), 10, "participants");
        (uint32 first, uint32 size) = settlement.groupOf(9);
        same(first, 3, "first");
        same(size, 7, "size");
        (, size) = settlement.groupOf(8);
        same(size, 0, "no group");
    }

    function testOwnersAndMetersAreFoundInEveryChunk() public {
        uint256[7] memory sizes = [uint256(1), 4, 2, 9, 1, 600, 3];
        for (uint32 group; group < sizes.length; ++group) {
            register(group, sizes[group]);
        }
        for (uint32 id; id < 620; id = id < 20 || id > 610 ? id + 1 : id + 97) {
            yes(settlement.ownerOf(id) == owner(id), "owner");
            yes(settlement.meterOf(id) == meter(id), "meter");
        }
    }

    function testUnknownParticipantsHaveNoOwnerAndNoMeter() public {
        register(0, 2);
        vm.expectRevert(abi.encodeWithSelector(Registry.UnknownParticipant.selector, 2));
        settlement.ownerOf(2);
        vm.expectRevert(abi.encodeWithSelector(Registry.UnknownParticipant.selector, 2));
        settlement.meterOf(2);
        vm.expectRevert(abi.encodeWithSelector(Registry.UnknownParticipant.selector, NETWORK));
        settlement.meterOf(NETWORK);
        yes(settlement.ownerOf(NETWORK) == NETWORK_OWNER, "owner of the network account");
    }

    function testOnlyTheLatestGroupGrows() public {
        register(0, 2);
        register(1, 2);
        bytes memory more = accounts(4, 1);
        vm.prank(REGISTRAR);
        vm.expectRevert(abi.encodeWithSelector(Registry.GroupClosed.selector, 0));
        settlement.register(0, more);
    }

    function testMalformedAccountsAreRefused() public {
        uint256[4] memory lengths = [uint256(0), 39, 41, 601 * 40];
        for (uint256 i; i < lengths.length; ++i) {
            vm.prank(REGISTRAR);
            vm.expectRevert(abi.encodeWithSelector(Registry.MalformedAccounts.selector, lengths[i]));
            settlement.register(0, new bytes(lengths[i]));
        }
    }

    function testNobodyIsNobody() public {
        bytes memory noMeter = bytes.concat(accounts(0, 1), bytes20(owner(1)), bytes20(0));
        vm.prank(REGISTRAR);
        vm.expectRevert(abi.encodeWithSelector(Registry.ZeroAccount.selector, 1));
        settlement.register(0, noMeter);
        bytes memory noOwner = bytes.concat(bytes20(0), bytes20(meter(1)));
        vm.prank(REGISTRAR);
        vm.expectRevert(abi.encodeWithSelector(Registry.ZeroAccount.selector, 0));
        settlement.register(0, noOwner);
    }

    function testOnlyOwnersHandAccountsOver() public {
        register(0, 2);
        vm.prank(owner(0));
        vm.expectRevert(abi.encodeWithSelector(Registry.NotOwner.selector, 1, owner(0)));
        settlement.changeOwner(1, STRANGER);
        vm.prank(owner(1));
        settlement.changeOwner(1, STRANGER);
        yes(settlement.ownerOf(1) == STRANGER, "new owner");
        yes(settlement.ownerOf(0) == owner(0), "the other's owner");
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Registry.ZeroAccount.selector, 0));
        settlement.changeOwner(1, address(0));
        vm.prank(NETWORK_OWNER);
        settlement.changeOwner(NETWORK, STRANGER);
        yes(settlement.ownerOf(NETWORK) == STRANGER, "new owner of the network account");
    }

    function testMetersAreReplacedByTheRegistrar() public {
        register(0, 2);
        vm.prank(REGISTRAR);
        settlement.replaceMeter(1, STRANGER);
        yes(settlement.meterOf(1) == STRANGER, "new meter");
        yes(settlement.meterOf(0) == meter(0), "the other's meter");
        vm.prank(REGISTRAR);
        vm.expectRevert(abi.encodeWithSelector(Registry.UnknownParticipant.selector, 2));
        settlement.replaceMeter(2, STRANGER);
        vm.prank(REGISTRAR);
        vm.expectRevert(abi.encodeWithSelector(Registry.ZeroAccount.selector, 0));
        settlement.replaceMeter(1, address(0));
    }

    function testDataContractsCannotRun() public {
        vm.recordLogs();
        register(0, 2);
        (,, address data) = abi.decode(vm.getRecordedLogs()[0].data, (uint32, uint32, address));
        same(data.code.length, 81, "code");
        (bool ok, bytes memory answer) = data.call(hex"b7fa5368");
        yes(ok && answer.length == 0, "stops at once");
    }
}

contract RolesTest is Base {
    function refused(address caller, bytes32 role) internal {
        vm.prank(caller);
        vm.expectRevert(
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, caller, role
            )
        );
    }

    /// @dev Nobody but its holder can do what a role is for, other roles' holders included.
    function testEveryRoleIsOnlyItsHolders() public {
        register(0, 1);
        bytes memory packed = accounts(1, 1);
        bytes32[4] memory roles = [
            settlement.REGISTRAR_ROLE(),
            settlement.OPERATOR_ROLE(),
            settlement.METER_AUTHORITY_ROLE(),
            settlement.PAUSER_ROLE()
        ];
        address[6] memory callers = [REGISTRAR, OPERATOR, AUTHORITY, PAUSER, ADMIN, STRANGER];
        for (uint256 i; i < callers.length; ++i) {
            address caller = callers[i];
            if (i != 0) {
                refused(caller, roles[0]);
                settlement.register(0, packed);
                refused(caller, roles[0]);
                settlement.replaceMeter(0, caller);
            }
            if (i != 1) {
                refused(caller, roles[1]);
                settlement.settle(0, "");
            }
            if (i != 2) {
                refused(caller, roles[2]);
                settlement.commitReadings("");
            }
            if (i != 3) {
                refused(caller, roles[3]);
                settlement.setPaused(true);
            }
            if (i != 4) {
                refused(caller, bytes32(0));
                settlement.grantRole(roles[3], caller);
                refused(caller, bytes32(0));
                settlement.revokeRole(roles[3], PAUSER);
            }
        }
    }

    function testOperatorAndMeterAuthorityAreTwo() public {
        bytes32 operator = settlement.OPERATOR_ROLE();
        bytes32 authority = settlement.METER_AUTHORITY_ROLE();
        vm.prank(ADMIN);
        vm.expectRevert(abi.encodeWithSelector(Roles.RolesConflict.selector, OPERATOR));
        settlement.grantRole(authority, OPERATOR);
        vm.prank(ADMIN);
        vm.expectRevert(abi.encodeWithSelector(Roles.RolesConflict.selector, AUTHORITY));
        settlement.grantRole(operator, AUTHORITY);
        Settlement.Parameters memory one = parameters();
        one.meterAuthority = OPERATOR;
        refusedDeployment(one, abi.encodeWithSelector(Roles.RolesConflict.selector, OPERATOR));
        // Who gives up the one can take the other.
        vm.prank(OPERATOR);
        settlement.renounceRole(operator, OPERATOR);
        vm.prank(ADMIN);
        settlement.grantRole(authority, OPERATOR);
    }

    function testPauseStopsAllButWithdrawals() public {
        register(0, 4);
        fundAll(100);
        bytes memory packed = accounts(4, 1);
        bytes memory stop = abi.encodeWithSelector(State.IsPaused.selector);
        vm.prank(PAUSER);
        settlement.setPaused(true);
        yes(settlement.paused(), "paused");
        vm.prank(REGISTRAR);
        vm.expectRevert(stop);
        settlement.register(0, packed);
        vm.prank(REGISTRAR);
        vm.expectRevert(stop);
        settlement.replaceMeter(0, STRANGER);
        vm.prank(OPERATOR);
        vm.expectRevert(stop);
        settlement.settle(0, "");
        vm.prank(AUTHORITY);
        vm.expectRevert(stop);
        settlement.commitReadings("");
        vm.prank(OPERATOR);
        vm.expectRevert(stop);
        settlement.deposit(0, 1);
        vm.prank(OPERATOR);
        vm.expectRevert(stop);
        settlement.fund(0, hex"0000000000000001");
        vm.prank(owner(0));
        settlement.withdraw(0, 100, owner(0));
        vm.prank(owner(1));
        settlement.changeOwner(1, STRANGER);
        vm.prank(PAUSER);
        settlement.setPaused(false);
        register(0, 1);
        same(settlement.participants(), 5, "goes on");
    }
}
