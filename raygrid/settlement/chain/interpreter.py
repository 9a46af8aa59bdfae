"""A faster way through bytecode for py-evm's computations.

py-evm takes a microsecond for each opcode, most of it to count gas and to check the stack one
opcode at a time. Here code is cut once into stretches that run from top to bottom; gas that is
always due and the stack's depth are checked per stretch, and the opcodes that loops are made of
are functions on a list of integers. All others (calls, storage writes, logs, ...) are py-evm's
own, called with its own gas meter, so that they see exactly what they would see there.

Charging a stretch at its start makes no difference to what a transaction does: where the gas does
not last, everything is undone and all gas is taken, wherever it ran out. A stretch therefore ends
with any opcode that looks at the gas that is left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth.exceptions import FullStack, Halt, InsufficientStack, InvalidJumpDestination, OutOfGas
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.logic.invalid import InvalidOpcode

from raygrid.settlement.chain import RECURSION_LIMIT
from raygrid.settlement.chain.accounts import Accounts
from raygrid.settlement.chain.opcodes import (
    AFTER_PUSH,
    SIMPLE,
    WORD,
    Operation,
    Stack,
    iszero,
    push,
)

EVM_RECURSION_LIMIT = sys.getrecursionlimit()
"""What py-evm needs for calls within calls; in force only while code runs."""
sys.setrecursionlimit(RECURSION_LIMIT)

STOP, JUMP, JUMPI, PC, GAS, JUMPDEST, PUSH0, PUSH32 = 0, 0x56, 0x57, 0x58, 0x5A, 0x5B, 0x5F, 0x7F
STACK_LIMIT = 1024
MOST_MEMORY = 2**32
"""Bytes for which no block has the gas."""

KEPT_PROGRAMS = 64

Tail = Callable[[Stack, "Machine"], int]


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Python's recursion limit as deep calls between contracts need it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, EVM_RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Machine:
    """What a computation holds while its code runs.

    Parameters
    ----------
    computation : eth.vm.computation.BaseComputation
        py-evm's computation.
    accounts : Accounts
        The chain's accounts.
    """

    __slots__ = ("accounts", "address", "computation", "data", "gas", "memory")

    def __init__(self, computation: Any, accounts: Accounts) -> None:
        self.computation = computation
        self.accounts = accounts
        self.address: bytes = computation.msg.storage_address
        self.data = bytes(computation.msg.data)
        self.gas: int = computation._gas_meter.gas_remaining
        self.memory: bytearray = computation._memory._bytes

    def charge(self, amount: int) -> None:
        """Take gas."""
        self.gas -= amount
        if self.gas < 0:
            raise OutOfGas(f"out of gas by {-self.gas}")

    def reach(self, end: int) -> None:
        """Make memory reach to `end` (exclusive), and charge for it."""
        size = len(self.memory)
        if end <= size:
            return
        if end > MOST_MEMORY:
            raise OutOfGas("out of gas for memory")
        old, new = size // WORD, (end + WORD - 1) // WORD
        self.charge(3 * (new - old) + new * new // 512 - old * old // 512)
        self.computation._memory.extend(0, end)
        self.memory = self.computation._memory._bytes


@dataclass(frozen=True, slots=True)
class Stretch:
    """Code that runs from top to bottom."""

    gas: int
    """What it always costs."""
    need: int
    """Fewest words that must be on the stack."""
    room: int
    """Most words that may be on the stack, lest it overflow."""
    operations: tuple[Operation, ...]
    tail: Tail
    """Its last step, which says where to go on."""


class Program:
    """A contract's code, cut into stretches as they are first reached.

    Parameters
    ----------
    code : bytes
        Bytecode.
    opcodes : mapping
        py-evm's opcodes of the fork, by number.
    """

    def __init__(self, code: bytes, opcodes: Mapping[int, Any]) -> None:
        self._code = code
        self._opcodes = opcodes
        self.stretches: dict[int, Stretch] = {}
        self.destinations = _jump_destinations(code)

    def stretch(self, start: int) -> Stretch:
        """The stretch that begins at a position, which is the end of another or a destination."""
        found = self.stretches.get(start)
        if found is None:
            found = self.stretches[start] = self._cut(start)
        return found

    def _push_at(self, position: int) -> int | None:
        """The value of a push instruction there, None if it is none."""
        code = self._code
        if position >= len(code) or not PUSH0 <= code[position] <= PUSH32:
            return None
        size = code[position] - PUSH0
        return int.from_bytes(code[position + 1 : position + 1 + size].ljust(size, b"\0"), "big")

    def _cut(self, start: int) -> Stretch:
        code, position = self._code, start
        gas = depth = lowest = highest = 0
        operations: list[Operation] = []
        tail: Tail | None = None

        def moved(taken: int, left: int) -> None:
            nonlocal depth, lowest, highest
            lowest = min(lowest, depth - taken)
            depth += left - taken
            highest = max(highest, depth)

        while tail is None:
            opcode = code[position] if position < len(code) else STOP
            following = position + 1
            if opcode == JUMPDEST and position != start:
                tail = _go_on(position)
                break
            if opcode in SIMPLE:
                operation, taken, left = SIMPLE[opcode]
                operations.append(operation)
                moved(taken, left)
                if opcode == GAS:
                    tail = _go_on(following)
            elif PUSH0 <= opcode <= PUSH32 or opcode == PC:
                value = position if opcode == PC else self._push_at(position)
                assert value is not None
                following += 0 if opcode == PC else opcode - PUSH0
                moved(0, 1)
                next_opcode = code[following] if following < len(code) else STOP
                if next_opcode in AFTER_PUSH:
                    gas += self._opcodes[opcode].gas_cost
                    opcode = next_opcode
                    operations.append(AFTER_PUSH[opcode](value))
                    moved(2, 1)
                    following += 1
                elif next_opcode in (JUMP, JUMPI):
                    gas += self._opcodes[opcode].gas_cost
                    opcode = next_opcode
                    moved(1 if opcode == JUMP else 2, 0)
                    tail = self._jump_to(value, opcode, following + 1, operations)
                else:
                    operations.append(push(value))
            elif opcode == JUMP:
                moved(1, 0)
                tail = self._jump()
            elif opcode == JUMPI:
                moved(2, 0)
                tail = self._jump_if(following)
            elif opcode != JUMPDEST:
                # py-evm's own takes its gas and checks the stack itself.
                tail = _by_py_evm(self._opcodes.get(opcode) or InvalidOpcode(opcode), following)
                break
            gas += self._opcodes[opcode].gas_cost
            position = following
        return Stretch(gas, -lowest, STACK_LIMIT - highest, tuple(operations), tail)

    def _jump_to(self, target: int, opcode: int, following: int, before: list[Operation]) -> Tail:
        """A jump to a target that the code names, on a condition if `opcode` is JUMPI."""
        if target not in self.destinations:
            return self._jump_astray(opcode, following)
        if opcode == JUMP:
            return _go_on(target)
        if before and before[-1] is iszero:
            before.pop()
            target, following = following, target

        def tail(stack: Stack, _: Machine) -> int:
            return target if stack.pop() else following

        return tail

    def _jump_astray(self, opcode: int, following: int) -> Tail:
        def tail(stack: Stack, _: Machine) -> int:
            if opcode == JUMP or stack.pop():
                raise InvalidJumpDestination("invalid jump destination")
            return following

        return tail

    def _jump(self) -> Tail:
        destinations = self.destinations

        def tail(stack: Stack, _: Machine) -> int:
            target = stack.pop()
            if target not in destinations:
                raise InvalidJumpDestination("invalid jump destination")
            return target

        return tail

    def _jump_if(self, following: int) -> Tail:
        destinations = self.destinations

        def tail(stack: Stack, _: Machine) -> int:
            target = stack.pop()
            if not stack.pop():
                return following
            if target not in destinations:
                raise InvalidJumpDestination("invalid jump destination")
            return target

        return tail


def _go_on(position: int) -> Tail:
    def tail(_: Stack, __: Machine) -> int:
        return position

    return tail


def _by_py_evm(opcode: Any, following: int) -> Tail:
    def tail(stack: Stack, machine: Machine) -> int:
        computation = machine.computation
        meter = computation._gas_meter
        meter.gas_remaining = machine.gas
        opcode(computation=computation)
        machine.gas = meter.gas_remaining
        machine.memory = computation._memory._bytes
        # It may leave a word as bytes, on top.
        if stack and isinstance(stack[-1], bytes):
            stack[-1] = int.from_bytes(stack[-1], "big")
        return following

    return tail


def _jump_destinations(code: bytes) -> frozenset[int]:
    """Positions of JUMPDEST that are not within the value of a push."""
    found, position = [], 0
    while position < len(code):
        opcode = code[position]
        if opcode == JUMPDEST:
            found.append(position)
        position += 1 + (opcode - PUSH0 if PUSH0 <= opcode <= PUSH32 else 0)
    return frozenset(found)


@lru_cache(KEPT_PROGRAMS)
def program_of(code: bytes) -> Program:
    """The program of a contract, kept for its next call."""
    return Program(code, PRAGUE_OPCODES)


def run_code(computation: Any, accounts: Accounts) -> None:
    """Run a computation's code to its end.

    Parameters
    ----------
    computation : eth.vm.computation.BaseComputation
        Changed in place.
    accounts : Accounts
        The chain's accounts, which the computation's state is on.

    Raises
    ------
    eth.exceptions.VMError
        If the code fails or reverts.
    """
    program = program_of(computation.msg.code)
    machine = Machine(computation, accounts)
    stack: Stack = computation._stack.values
    stretches = program.stretches
    position = 0
    try:
        while True:
            stretch = stretches.get(position) or program.stretch(position)
            depth = len(stack)
            if depth < stretch.need:
                raise InsufficientStack("too few words on the stack")
            if depth > stretch.room:
                raise FullStack("too many words on the stack")
            machine.gas -= stretch.gas
            if machine.gas < 0:
                raise OutOfGas("out of gas")
            for operation in stretch.operations:
                operation(stack, machine)
            position = stretch.tail(stack, machine)
    except Halt:
        return
