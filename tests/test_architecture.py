"""The house rules of the code base, read from the syntax trees of its files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(p for name in ("raygrid", "actors") for p in (ROOT / name).rglob("*.py"))

HEAVY = {"cvxpy", "matplotlib", "pandapower", "pandas", "pvlib", "simbench", "torch", "web3"}
HEAVY |= {"sklearn"}
"""Libraries too slow or too large to load before they are needed."""

MAX_LINES = 500

LAYERS = (
    {"raygrid.arrays", "raygrid.errors"},
    {"raygrid.grid", "raygrid.prosumer"},
    {"raygrid.scenario"},
    {"raygrid.market", "raygrid.learning", "raygrid.settlement", "raygrid.results"},
    {"actors"},
    {"raygrid.cli", "raygrid.commands", "raygrid.__main__"},
)
"""From below to above; a file imports from its own part and from layers below it."""

SIDEWAYS = {"raygrid.market", "raygrid.learning", "raygrid.settlement", "raygrid.results", "actors"}
SIDEWAYS |= {"raygrid.cli", "raygrid.commands", "raygrid.__main__"}
"""Parts whose layer may look sideways (results reads what market made); the others may not."""


class Import(NamedTuple):
    """One import statement's target."""

    name: str
    line: int
    top: bool
    """Whether it runs when the file is loaded."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, those for the type checker only left out."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]

    def walk(node: ast.AST, top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, top)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                target = ".".join([*base, *([child.module] if child.module else [])])
                for alias in child.names:
                    yield Import(f"{target}.{alias.name}", child.lineno, top)
            elif is_type_checking(child):
                assert isinstance(child, ast.If)
                for other in child.orelse:
                    yield from walk(other, top)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, top and not inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def part_of(name: str) -> str:
    """The part of the house a dotted name belongs to: 'actors' or 'raygrid.<part>'."""
    parts = name.split(".")
    return "actors" if parts[0] == "actors" else ".".join(parts[:2])


def layer_of(part: str) -> int | None:
    return next((k for k, layer in enumerate(LAYERS) if part in layer), None)


def source_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_domain_never_imports_ray(path: Path) -> None:
    if path.is_relative_to(ROOT / "actors"):
        return
    ray = [i for i in imports(path) if i.name.split(".")[0] == "ray"]
    assert not ray, f"raygrid knows no Ray: {ray}"


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_only_commands_reach_actors_and_only_inside_functions(path: Path) -> None:
    if path.is_relative_to(ROOT / "actors"):
        return
    reached = [i for i in imports(path) if i.name.split(".")[0] == "actors"]
    if layer_of(part_of(module_name(path))) == len(LAYERS) - 1:
        reached = [i for i in reached if i.top]
    assert not reached, f"actors stand above raygrid: {reached}"


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_imports_run_one_way(path: Path) -> None:
    own = part_of(module_name(path))
    own_layer = layer_of(own)
    if own_layer is None:
        return  # files directly under raygrid/: covered from the importing side
    wrong = []
    for found in imports(path):
        part = part_of(found.name)
        layer = layer_of(part)
        if layer is None or part == own:
            continue
        if layer > own_layer or (layer == own_layer and own not in SIDEWAYS and layer > 0):
            wrong.append(found)
    assert not wrong, f"{own} imports upwards or sideways: {wrong}"


def test_shared_files_stand_below_every_part() -> None:
    """Files directly under raygrid/ import of the layers only the lowest."""
    wrong = [
        (source_id(path), found)
        for path in SOURCES
        if layer_of(part_of(module_name(path))) is None
        for found in imports(path)
        if (layer_of(part_of(found.name)) or 0) > 0
    ]
    assert not wrong


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_heavy_libraries_load_where_they_are_used(path: Path) -> None:
    heavy = [i for i in imports(path) if i.top and i.name.split(".")[0] in HEAVY]
    assert not heavy, f"import these inside the functions that use them: {heavy}"


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_no_unsafe_loading(path: Path) -> None:
    """Scenario files and results come from strangers: nothing in them may run."""
    wrong = [i for i in imports(path) if i.name.split(".")[0] in {"pickle", "cloudpickle", "dill"}]
    calls = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in {"eval", "exec", "yaml.unsafe_load", "yaml.full_load"}:
            calls.append((name, node.lineno))
        if name == "yaml.load" and "Safe" not in keywords.get("Loader", ""):
            calls.append((name, node.lineno))
        if keywords.get("allow_pickle") == "True":
            calls.append((name, node.lineno))
    assert not wrong
    assert not calls


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_files_are_one_room(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: split it"


def loaded_by(module: str) -> set[str]:
    """Top-level modules in memory after importing `module` in a new interpreter."""
    code = f"import sys, {module}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_help_is_fast() -> None:
    """Importing the commands loads nothing that takes long."""
    slow = HEAVY | {"ray", "actors", "numba", "scipy", "pyarrow", "clarabel", "osqp"}
    assert not loaded_by("raygrid.cli") & slow


@pytest.mark.parametrize("module", ["actors.prosumer", "actors.operator", "actors.feeder"])
def test_actors_stay_small(module: str) -> None:
    """A process for every prosumer holds arrays and kernels, no parsers and no solvers."""
    code = f"import sys, {module}; print('scipy.sparse' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    assert not loaded_by(module) & (HEAVY | {"pyarrow", "pydantic", "clarabel", "osqp", "ray"})


def tracked_files() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_path_of_one_machine() -> None:
    """Tracked text names no folder of the machine it was made on."""
    private = re.compile(r"(?<![\w.])/(?:root|home/\w+|work|Users/\w+)/|file:///")
    found = []
    for path in tracked_files():
        if not path.is_file() or path.stat().st_size > 1_000_000 or path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{source_id(path)}: {m.group()}" for m in private.finditer(text)]
    assert not found


def test_tracked_files_stay_small() -> None:
    large = {
        source_id(p): p.stat().st_size
        for p in tracked_files()
        if p.is_file() and p.stat().st_size > 5_000_000
    }
    assert not large
