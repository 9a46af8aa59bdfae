"""The fast interpreter against py-evm's own, on random words and random programs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.settlement.chain.accounts import Accounts
from raygrid.settlement.chain.evm import LocalState, execution_context
from raygrid.settlement.chain.interpreter import program_of
from tests.settlement.chain.programs import OPCODES, assemble, word

CONTRACT, SENDER, CHILD = b"\x0a" * 20, b"\x0b" * 20, b"\x0c" * 20
GAS = 200_000

Result = tuple[bool, int, int, bytes, object, object, object]


class PyEvmState(LocalState):
    """The same state, with py-evm's own loop over opcodes."""

    computation_class = PragueComputation


def run(kind: type[LocalState], code: bytes, data: bytes = b"", gas: int = GAS) -> Result:
    accounts = Accounts()
    accounts.set_code(CONTRACT, code)
    accounts.set_code(CHILD, assemble("CALLER 0 MSTORE 32 0 CALLDATACOPY 1 SLOAD 40 0 RETURN"))
    accounts.set_storage(CONTRACT, 1, 99)
    accounts.end_transaction()
    context = execution_context(
        number=7, timestamp=1000, gas_limit=10**9, chain_id=1337, base_fee_wei=0,
        prev_hashes=[word(6), word(5)],
    )  # fmt: skip
    state = kind(accounts, context)
    transaction = state.get_transaction_context_class()(gas_price=3, origin=SENDER)
    message = Message(gas=gas, to=CONTRACT, sender=SENDER, value=0, data=data, code=code)
    done = state.computation_class.apply_message(state, message, transaction)
    return (
        done.is_success,
        done.get_gas_remaining(),
        done.get_gas_refund(),
        bytes(done.output),
        done.get_log_entries(),
        accounts.storage,
        accounts.nonces,
    )


def check(code: bytes, data: bytes = b"", gas: int = GAS) -> Result:
    """Both do the same; what that is."""
    ours = run(LocalState, code, data, gas)
    assert ours == run(PyEvmState, code, data, gas)
    return ours


def answer(text: str, data: bytes = b"") -> int:
    """What an expression leaves on the stack, by both."""
    succeeded, _, _, output, *_ = check(assemble(f"{text} 0 MSTORE 32 0 RETURN"), data)
    assert succeeded
    return int.from_bytes(output, "big")


MIN = 2**255
TOP = 2**256 - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"1 {TOP} ADD", 0),
        ("5 3 SUB", TOP - 1),
        (f"2 {MIN} MUL", 0),
        ("0 7 DIV", 0),
        ("2 7 DIV", 3),
        (f"{TOP} {MIN} SDIV", MIN),  # the one quotient that overflows
        (f"2 {TOP - 6} SDIV", TOP - 2),  # -7 / 2 = -3, towards zero
        (f"3 {TOP - 7} SMOD", TOP - 1),  # -8 mod 3 = -2, the sign of the dividend
        ("0 7 SMOD", 0),
        ("0x80 0 SIGNEXTEND", TOP - 127),
        ("0xff 31 SIGNEXTEND", 0xFF),
        (f"1 {TOP} SLT", 1),
        (f"{TOP} 1 SGT", 1),
        ("0x1234 30 BYTE", 0x12),
        ("0x1234 32 BYTE", 0),
        (f"{MIN} 255 SAR", TOP),
        (f"{MIN} 4 SAR", 0xF8 << 248),
        (f"1 {TOP} SAR", 0),
        ("1 256 SHL", 0),
        (f"{TOP} 256 SHR", 0),
        ("7 NOT", TOP - 7),
        ("0 0 KECCAK256", 0xC5D2460186F7233C927E7DB2DCC703C0E500B653CA82273B7BFAD8045D85A470),
        ("33 CALLDATALOAD", 0xAB << 248),
        (f"{TOP} CALLDATALOAD", 0),
        ("PC", 0),
        ("1 SLOAD", 99),
        ("MSIZE", 0),
        ("5 40 MSTORE8 MSIZE", 64),
    ],
)  # fmt: skip
def test_known_values(text: str, expected: int) -> None:
    assert answer(text, bytes(33) + b"\xab") == expected


words = st.one_of(
    st.integers(0, 40),
    st.sampled_from([MIN, MIN - 1, MIN + 1, TOP, TOP - 1, 255, 256, 257, 2**64, 2**32 - 1]),
    st.integers(0, TOP),
)
UNARY = ["NOT", "ISZERO"]
BINARY = ["ADD", "SUB", "MUL", "DIV", "SDIV", "MOD", "SMOD", "SIGNEXTEND", "LT", "GT", "SLT"]
BINARY += ["SGT", "EQ", "AND", "OR", "XOR", "BYTE", "SHL", "SHR", "SAR", "EXP"]


@given(st.lists(words, min_size=3, max_size=3), st.sampled_from(BINARY))
def test_arithmetic_is_py_evms(values: list[int], name: str) -> None:
    a, b, c = values
    answer(f"{a} {b} {name}")
    answer(f"{a} {b} DUP1 DUP3 {name} {name}")  # not straight after a push
    answer(f"{a} {b} {c} ADDMOD {a} {b} {c} MULMOD {name}")
    for unary in UNARY:
        answer(f"{a} {unary}")


memory = st.integers(0, 200) | st.sampled_from([TOP, 2**32, 2**20])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["MSTORE", "MSTORE8", "LOG0"]), memory, memory),
            st.tuples(
                st.sampled_from(["CALLDATACOPY", "CODECOPY", "MCOPY"]), memory, memory, memory
            ),
            st.tuples(st.just("MLOAD POP"), memory),
            st.tuples(st.just("KECCAK256 9 SSTORE"), memory, memory),
        ),
        max_size=12,
    ),
    st.binary(max_size=80),
)
def test_memory_is_py_evms(steps: list[tuple[str, *tuple[int, ...]]], data: bytes) -> None:
    text = "\n".join(f"{' '.join(map(str, values))} {name}" for name, *values in steps)
    check(assemble(f"{text} MSIZE GAS 0 MSTORE 32 MSTORE 64 0 RETURN"), data)


OTHERS = ["SSTORE", "SLOAD", "TLOAD", "TSTORE", "GAS", "MSIZE", "PC", "CALLER", "CALLVALUE"]
OTHERS += ["CALLDATASIZE", "RETURNDATASIZE", "NUMBER", "BLOCKHASH", "JUMPDEST", "POP", "ADDRESS"]
OTHERS += ["DUP1", "DUP2", "DUP5", "DUP16", "SWAP1", "SWAP2", "SWAP7", "SWAP16"]
OTHERS += ["MLOAD", "MSTORE", "CALLDATALOAD", "KECCAK256", "LOG1", "JUMP", "JUMPI"]
ENDS = ["STOP", "REVERT", "RETURN", "INVALID"]
CALL_CHILD = f"32 0 40 0 {int.from_bytes(CHILD, 'big')} GAS STATICCALL"
LOOP = "3 :a{k} 1 SWAP1 SUB DUP1 @a{k} JUMPI POP"


@settings(max_examples=300)
@given(st.data(), st.integers(0, 60_000))
def test_any_program_does_what_it_does_in_py_evm(draws: st.DataObject, gas: int) -> None:
    """Also with too few words, jumps astray, and gas that runs out anywhere."""
    step = st.one_of(
        st.sampled_from(BINARY + UNARY + OTHERS),
        words.map(str),
        st.integers(0, 64).map(str),
        st.sampled_from([CALL_CHILD, LOOP, "@end JUMP", "@end JUMPI", "ISZERO @end JUMPI"]),
        st.sampled_from(ENDS),
    )
    steps = draws.draw(st.lists(step, max_size=40))
    text = "5 4 3 2 1 " + " ".join(s.replace("{k}", str(k)) for k, s in enumerate(steps))
    code = assemble(f"{text} :end 0 MSTORE GAS 32 MSTORE 64 0 RETURN")
    check(code, word(3), gas)
    check(code, word(3))


@pytest.mark.filterwarnings("ignore:SELFDESTRUCT opcode:DeprecationWarning")
@settings(max_examples=300)
@given(st.binary(max_size=120), st.binary(max_size=40))
def test_any_bytes_do_what_they_do_in_py_evm(code: bytes, data: bytes) -> None:
    check(code, data)


def test_a_stack_of_1024_words_is_full() -> None:
    fill = "PUSH0 " * 1024
    assert check(assemble(fill))[0]
    assert not check(assemble(fill + "PUSH0"))[0]
    assert not check(assemble(fill + "DUP1"))[0]
    assert check(assemble(fill + "POP 1 ADD"))[0]
    assert not check(assemble(fill + "1 ADD"))[0]


def test_gas_runs_out_at_the_very_unit() -> None:
    code = assemble("1 2 ADD 0 MSTORE 5 0 SSTORE 32 0 RETURN")
    succeeded, left, *_ = check(code)
    assert succeeded
    used = GAS - left
    # EIP-2200 wants more than 2,300 gas left at the storage write.
    assert check(code, gas=used)[0]
    assert not check(code, gas=used - 1)[0]
    assert not check(code, gas=2_300 + 18)[0]


def test_a_push_can_hide_a_destination() -> None:
    hidden = bytes([OPCODES["PUSH0"] + 1, 4, OPCODES["JUMP"], 0x61, 0x5B, 0x5B])
    assert program_of(hidden).destinations == frozenset()
    assert not check(hidden)[0]


def test_a_push_cut_off_by_the_end_is_filled_with_zeros() -> None:
    assert check(bytes.fromhex("600160005560ff63aa"))[0]


def test_python_s_recursion_limit_is_raised_only_while_code_runs() -> None:
    """Parsers of JSON and YAML rely on it against files that are nested without end."""
    code = (
        "import sys\n"
        "before = sys.getrecursionlimit()\n"
        "from raygrid.settlement.chain.interpreter import deep_recursion\n"
        "assert sys.getrecursionlimit() == before\n"
        "with deep_recursion():\n"
        "    assert sys.getrecursionlimit() >= 10_000\n"
        "assert sys.getrecursionlimit() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
