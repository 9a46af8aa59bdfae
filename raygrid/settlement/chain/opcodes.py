"""Opcodes as small functions on a list of integers: the part of the EVM that loops run through.

Each takes the stack, top last, and the machine. Semantics are those of the yellow paper; the gas
that an opcode always costs is not charged here but for a whole stretch of code at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eth_hash.auto import keccak

if TYPE_CHECKING:
    from raygrid.settlement.chain.interpreter import Machine

Stack = list[int]
Operation = Callable[[Stack, "Machine"], None]

MASK = 2**256 - 1
SIGN = 2**255
WORD = 32

KECCAK_WORD_GAS = 6
COPY_WORD_GAS = 3
COLD_SLOT_GAS = 2_100
WARM_GAS = 100


def signed(value: int) -> int:
    """A word read as two's complement."""
    return value - 2 * SIGN if value & SIGN else value


def add(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = (left + stack[-1]) & MASK


def mul(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = (left * stack[-1]) & MASK


def sub(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = (left - stack[-1]) & MASK


def div(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    right = stack[-1]
    stack[-1] = left // right if right else 0


def sdiv(stack: Stack, _: Machine) -> None:
    left, right = signed(stack.pop()), signed(stack[-1])
    if right:
        size = abs(left) // abs(right)
        stack[-1] = (-size if (left < 0) != (right < 0) else size) & MASK


def mod(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    right = stack[-1]
    stack[-1] = left % right if right else 0


def smod(stack: Stack, _: Machine) -> None:
    left, right = signed(stack.pop()), signed(stack[-1])
    if right:
        size = abs(left) % abs(right)
        stack[-1] = (-size if left < 0 else size) & MASK


def lt(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = 1 if left < stack[-1] else 0


def gt(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = 1 if left > stack[-1] else 0


def slt(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = 1 if left ^ SIGN < stack[-1] ^ SIGN else 0


def sgt(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = 1 if left ^ SIGN > stack[-1] ^ SIGN else 0


def eq(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] = 1 if left == stack[-1] else 0


def iszero(stack: Stack, _: Machine) -> None:
    stack[-1] = 0 if stack[-1] else 1


def and_(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] &= left


def or_(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] |= left


def xor(stack: Stack, _: Machine) -> None:
    left = stack.pop()
    stack[-1] ^= left


def not_(stack: Stack, _: Machine) -> None:
    stack[-1] ^= MASK


def byte(stack: Stack, _: Machine) -> None:
    index = stack.pop()
    stack[-1] = (stack[-1] >> (248 - 8 * index)) & 0xFF if index < WORD else 0


def shl(stack: Stack, _: Machine) -> None:
    shift = stack.pop()
    stack[-1] = (stack[-1] << shift) & MASK if shift < 256 else 0


def shr(stack: Stack, _: Machine) -> None:
    shift = stack.pop()
    stack[-1] = stack[-1] >> shift if shift < 256 else 0


def sar(stack: Stack, _: Machine) -> None:
    shift = stack.pop()
    stack[-1] = (signed(stack[-1]) >> min(shift, 256)) & MASK


def signextend(stack: Stack, _: Machine) -> None:
    size = stack.pop()
    if size < WORD - 1:
        bit = 1 << (8 * size + 7)
        low = stack[-1] & (2 * bit - 1)
        stack[-1] = low | (MASK ^ (2 * bit - 1)) if low & bit else low


def keccak256(stack: Stack, machine: Machine) -> None:
    start, size = stack.pop(), stack[-1]
    machine.charge(KECCAK_WORD_GAS * ((size + WORD - 1) // WORD))
    if size:
        machine.reach(start + size)
    stack[-1] = int.from_bytes(keccak(bytes(machine.memory[start : start + size])), "big")


def calldataload(stack: Stack, machine: Machine) -> None:
    start = stack[-1]
    word = machine.data[start : start + WORD]
    stack[-1] = int.from_bytes(word, "big") << (8 * (WORD - len(word)))


def calldatasize(stack: Stack, machine: Machine) -> None:
    stack.append(len(machine.data))


def calldatacopy(stack: Stack, machine: Machine) -> None:
    to, start, size = stack.pop(), stack.pop(), stack.pop()
    machine.charge(COPY_WORD_GAS * ((size + WORD - 1) // WORD))
    if size:
        machine.reach(to + size)
        part = machine.data[start : start + size]
        machine.memory[to : to + size] = part.ljust(size, b"\0")


def mload(stack: Stack, machine: Machine) -> None:
    start = stack[-1]
    end = start + WORD
    if end > len(machine.memory):
        machine.reach(end)
    stack[-1] = int.from_bytes(machine.memory[start:end], "big")


def mstore(stack: Stack, machine: Machine) -> None:
    start = stack.pop()
    end = start + WORD
    if end > len(machine.memory):
        machine.reach(end)
    machine.memory[start:end] = stack.pop().to_bytes(WORD, "big")


def mstore8(stack: Stack, machine: Machine) -> None:
    start = stack.pop()
    machine.reach(start + 1)
    machine.memory[start] = stack.pop() & 0xFF


def mcopy(stack: Stack, machine: Machine) -> None:
    to, start, size = stack.pop(), stack.pop(), stack.pop()
    machine.charge(COPY_WORD_GAS * ((size + WORD - 1) // WORD))
    if size:
        machine.reach(max(to, start) + size)
        machine.memory[to : to + size] = machine.memory[start : start + size]


def msize(stack: Stack, machine: Machine) -> None:
    stack.append(len(machine.memory))


def sload(stack: Stack, machine: Machine) -> None:
    slot, accounts, address = stack[-1], machine.accounts, machine.address
    if accounts.is_storage_warm(address, slot):
        machine.charge(WARM_GAS)
    else:
        machine.charge(COLD_SLOT_GAS)
        accounts.mark_storage_warm(address, slot)
    stack[-1] = accounts.get_storage(address, slot)


def gas(stack: Stack, machine: Machine) -> None:
    stack.append(machine.gas)


def pop(stack: Stack, _: Machine) -> None:
    stack.pop()


def push(value: int) -> Operation:
    """PUSH0 to PUSH32, and PC."""

    def operation(stack: Stack, _: Machine) -> None:
        stack.append(value)

    return operation


def dup(depth: int) -> Operation:
    """DUP1 to DUP16."""

    def operation(stack: Stack, _: Machine) -> None:
        stack.append(stack[-depth])

    return operation


def swap(depth: int) -> Operation:
    """SWAP1 to SWAP16."""
    other = -depth - 1

    def operation(stack: Stack, _: Machine) -> None:
        stack[-1], stack[other] = stack[other], stack[-1]

    return operation


SIMPLE: dict[int, tuple[Operation, int, int]] = {
    0x01: (add, 2, 1), 0x02: (mul, 2, 1), 0x03: (sub, 2, 1), 0x04: (div, 2, 1),
    0x05: (sdiv, 2, 1), 0x06: (mod, 2, 1), 0x07: (smod, 2, 1), 0x0B: (signextend, 2, 1),
    0x10: (lt, 2, 1), 0x11: (gt, 2, 1), 0x12: (slt, 2, 1), 0x13: (sgt, 2, 1), 0x14: (eq, 2, 1),
    0x15: (iszero, 1, 1), 0x16: (and_, 2, 1), 0x17: (or_, 2, 1), 0x18: (xor, 2, 1),
    0x19: (not_, 1, 1), 0x1A: (byte, 2, 1), 0x1B: (shl, 2, 1), 0x1C: (shr, 2, 1),
    0x1D: (sar, 2, 1), 0x20: (keccak256, 2, 1), 0x35: (calldataload, 1, 1),
    0x36: (calldatasize, 0, 1), 0x37: (calldatacopy, 3, 0), 0x50: (pop, 1, 0),
    0x51: (mload, 1, 1), 0x52: (mstore, 2, 0), 0x53: (mstore8, 2, 0), 0x54: (sload, 1, 1),
    0x59: (msize, 0, 1), 0x5A: (gas, 0, 1), 0x5E: (mcopy, 3, 0),
    **{0x7F + k: (dup(k), k, k + 1) for k in range(1, 17)},
    **{0x8F + k: (swap(k), k + 1, k + 1) for k in range(1, 17)},
}  # fmt: skip
"""By opcode: the function, how many words it takes and how many it leaves."""


def push_add(value: int) -> Operation:
    def operation(stack: Stack, _: Machine) -> None:
        stack[-1] = (stack[-1] + value) & MASK

    return operation


def push_and(value: int) -> Operation:
    def operation(stack: Stack, _: Machine) -> None:
        stack[-1] &= value

    return operation


def push_shr(value: int) -> Operation:
    def operation(stack: Stack, _: Machine) -> None:
        stack[-1] = stack[-1] >> value if value < 256 else 0

    return operation


def push_shl(value: int) -> Operation:
    def operation(stack: Stack, _: Machine) -> None:
        stack[-1] = (stack[-1] << value) & MASK if value < 256 else 0

    return operation


AFTER_PUSH: dict[int, Callable[[int], Operation]] = {
    0x01: push_add, 0x16: push_and, 0x1B: push_shl, 0x1C: push_shr,
}  # fmt: skip
"""Opcodes that are one step together with a push right before them."""
