"""Tiny contracts in bytecode, written by hand, for tests of chains."""

from __future__ import annotations

OPCODES = {
    "STOP": 0x00, "ADD": 0x01, "MUL": 0x02, "SUB": 0x03, "DIV": 0x04, "SDIV": 0x05, "MOD": 0x06,
    "SMOD": 0x07, "ADDMOD": 0x08, "MULMOD": 0x09, "EXP": 0x0A, "SIGNEXTEND": 0x0B, "LT": 0x10,
    "GT": 0x11, "SLT": 0x12, "SGT": 0x13, "EQ": 0x14, "ISZERO": 0x15, "AND": 0x16, "OR": 0x17,
    "XOR": 0x18, "NOT": 0x19, "BYTE": 0x1A, "SHL": 0x1B, "SHR": 0x1C, "SAR": 0x1D,
    "KECCAK256": 0x20, "ADDRESS": 0x30, "BALANCE": 0x31, "ORIGIN": 0x32, "CALLER": 0x33,
    "CALLVALUE": 0x34, "CALLDATALOAD": 0x35, "CALLDATASIZE": 0x36, "CALLDATACOPY": 0x37,
    "CODESIZE": 0x38, "CODECOPY": 0x39, "GASPRICE": 0x3A, "RETURNDATASIZE": 0x3D,
    "RETURNDATACOPY": 0x3E,
    "BLOCKHASH": 0x40, "TIMESTAMP": 0x42, "NUMBER": 0x43, "CHAINID": 0x46, "BASEFEE": 0x48,
    "POP": 0x50, "MLOAD": 0x51, "MSTORE": 0x52, "MSTORE8": 0x53, "SLOAD": 0x54, "SSTORE": 0x55,
    "JUMP": 0x56, "JUMPI": 0x57, "PC": 0x58, "MSIZE": 0x59, "GAS": 0x5A, "JUMPDEST": 0x5B,
    "TLOAD": 0x5C, "TSTORE": 0x5D, "MCOPY": 0x5E, "PUSH0": 0x5F, "CREATE": 0xF0, "CALL": 0xF1,
    "RETURN": 0xF3, "DELEGATECALL": 0xF4, "STATICCALL": 0xFA, "REVERT": 0xFD, "INVALID": 0xFE,
}  # fmt: skip
OPCODES |= {f"DUP{k}": 0x7F + k for k in range(1, 17)}
OPCODES |= {f"SWAP{k}": 0x8F + k for k in range(1, 17)}
OPCODES |= {f"LOG{k}": 0xA0 + k for k in range(5)}


def assemble(text: str) -> bytes:
    """Bytecode of words: opcodes by name, numbers as the shortest push, `:x` a label, `@x` a jump
    target (pushed as two bytes)."""
    code, labels, holes = bytearray(), {}, {}
    for word in text.split():
        if word.startswith(":"):
            labels[word[1:]] = len(code)
            code.append(OPCODES["JUMPDEST"])
        elif word.startswith("@"):
            holes[len(code) + 1] = word[1:]
            code += b"\x61\0\0"
        elif word in OPCODES:
            code.append(OPCODES[word])
        else:
            number = int(word, 0)
            size = (number.bit_length() + 7) // 8
            code += bytes([0x5F + size]) + number.to_bytes(size, "big")
    for position, label in holes.items():
        code[position : position + 2] = labels[label].to_bytes(2, "big")
    return bytes(code)


def deployment(runtime: bytes) -> bytes:
    """Code that deploys `runtime`."""
    head = bytes.fromhex(f"61{len(runtime):04x}80600b6000395ff3")
    return head + runtime


COUNTER = assemble(
    """
    CALLDATASIZE @change JUMPI
    0 SLOAD 0 MSTORE 32 0 RETURN
    :change
    0 CALLDATALOAD DUP1 0xdead EQ @refuse JUMPI
    0 SLOAD ADD DUP1 0 SSTORE
    0 MSTORE 7 32 0 LOG1 STOP
    :refuse
    0x08c379a0 224 SHL 0 MSTORE 32 4 MSTORE 4 36 MSTORE 0x6e6f7065 224 SHL 68 MSTORE
    100 0 REVERT
    """
)
"""Adds its first calldata word to slot 0 and logs the sum under topic 7; returns the slot without
calldata; reverts with Error("nope") for 0xdead."""


def word(value: int) -> bytes:
    """A number as 32 bytes."""
    return value.to_bytes(32, "big")
