"""Compiled contracts: where they are found, and the words that their calls are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from raygrid.errors import InputError
from raygrid.files import data_root

WORD = 32
"""Bytes of one argument."""


@dataclass(frozen=True)
class Artifact:
    """A compiled contract.

    Attributes
    ----------
    name : str
        Its name.
    abi : list of dict
        Its functions, events and errors.
    bytecode : bytes
        The code that deploys it; constructor arguments go behind.
    runtime : bytes
        The code deployed, zeros where immutables go.
    source_hash : str
        SHA-256 of sources, settings and locked packages; hexadecimal.
    compiler : str
        Version of the compiler.
    functions, errors : mapping of str to bytes
        Selectors by signature, 'settle(uint64,bytes)'.
    events : mapping of str to bytes
        Topics by signature.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    runtime: bytes
    source_hash: str
    compiler: str
    functions: Mapping[str, bytes]
    errors: Mapping[str, bytes]
    events: Mapping[str, bytes]

    def topic(self, event: str) -> bytes:
        """First topic of an event, by its bare name."""
        return next(t for s, t in self.events.items() if s.partition("(")[0] == event)

    def call(self, signature: str, *words: int | bytes, tail: bytes | None = None) -> bytes:
        """Calldata of a function.

        Parameters
        ----------
        signature : str
            'settle(uint64,bytes)'.
        *words : int or bytes
            Arguments of a word each; addresses as 20 bytes, numbers of either sign.
        tail : bytes, optional
            The last argument, where it is `bytes`.
        """
        parts = [self.functions[signature], *map(encode_word, words)]
        if tail is not None:
            parts += [encode_word((len(words) + 1) * WORD), encode_bytes(tail)]
        return b"".join(parts)


@cache
def load_artifact(name: str = "Settlement") -> Artifact:
    """Read a compiled contract that ships with raygrid.

    Parameters
    ----------
    name : str
        'Settlement', 'TestToken', or 'StoredTrades' of the benchmark.

    Raises
    ------
    InputError
        If it is missing or cannot be read.
    """
    path = data_root("contracts") / "artifacts" / f"{name}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {
            kind: {k: bytes.fromhex(v) for k, v in content["identifiers"][kind].items()}
            for kind in ("functions", "errors", "events")
        }
        return Artifact(
            name=name,
            abi=content["abi"],
            bytecode=bytes.fromhex(content["bytecode"].removeprefix("0x")),
            runtime=bytes.fromhex(content["runtime"].removeprefix("0x")),
            source_hash=content["sourceHash"],
            compiler=content["compiler"],
            **known,
        )
    except OSError:
        raise InputError("no such compiled contract", str(path), "run 'make contracts'") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            "the compiled contract cannot be read", str(path), "run 'make contracts'"
        ) from None


def decode_error(data: bytes) -> str:
    """Why a contract refused a call, in its own words: 'WrongSequence(3, 2)'.

    Parameters
    ----------
    data : bytes
        What the call reverted with.
    """
    for artifact in (load_artifact(), load_artifact("TestToken")):
        for signature, selector in artifact.errors.items():
            if data[:4] == selector:
                name, _, types = signature.partition("(")
                kinds = types.rstrip(")").split(",") if types != ")" else []
                said = (_argument(kind, data, 4 + k * WORD) for k, kind in enumerate(kinds))
                return f"{name}({', '.join(said)})"
    if data[:4] == bytes.fromhex("08c379a0"):  # Error(string)
        size = read_number(data, 4 + WORD)
        return data[4 + 2 * WORD : 4 + 2 * WORD + size].decode("utf-8", "replace")
    if data[:4] == bytes.fromhex("4e487b71"):  # Panic(uint256)
        return f"Panic({read_number(data, 4)})"
    return f"0x{data.hex()}" if data else "no reason given"


def _argument(kind: str, data: bytes, start: int) -> str:
    if kind == "address":
        return f"0x{data[start + 12 : start + WORD].hex()}"
    if kind.startswith("bytes"):
        return f"0x{data[start : start + WORD].hex()}"
    return str(read_signed(data, start) if kind.startswith("int") else read_number(data, start))


def encode_word(value: int | bytes) -> bytes:
    """One argument as a word."""
    if isinstance(value, bytes):
        return value.rjust(WORD, b"\0")
    return (value % 2**256).to_bytes(WORD, "big")


def encode_bytes(data: bytes) -> bytes:
    """An argument of type `bytes`: its length, and itself filled up to whole words."""
    return encode_word(len(data)) + data + bytes(-len(data) % WORD)


def read_number(data: bytes, start: int) -> int:
    """The unsigned number at `start`."""
    return int.from_bytes(data[start : start + WORD], "big")


def read_signed(data: bytes, start: int) -> int:
    """The number of either sign at `start`."""
    return int.from_bytes(data[start : start + WORD], "big", signed=True)
