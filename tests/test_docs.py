"""What the documents say of the code is true of the code."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "cluster").rglob("*.md")]
)
DOTTED = re.compile(r"`((?:raygrid|actors)(?:\.\w+)+)(?:\(\))?`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def resolve(name: str) -> object:
    """The module, class, function, attribute or field of a dotted name."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[k:]:
            if attribute in getattr(found, "__dataclass_fields__", {}):
                return attribute
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_named_code_exists(page: Path) -> None:
    missing = []
    for name in sorted(set(DOTTED.findall(page.read_text(encoding="utf-8")))):
        try:
            resolve(name)
        except (ModuleNotFoundError, AttributeError):
            missing.append(name)
    assert not missing


def test_formulation_names_what_it_says() -> None:
    """Every row of the formulation's tables of equations names at least one function."""
    text = (ROOT / "docs" / "formulation.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| \(\d-\d+\)", line)]
    assert len(rows) >= 20
    assert all(DOTTED.search(row) for row in rows)


def cited(text: str) -> set[tuple[int, int]]:
    """Equation numbers in a text, ranges such as (3-2) to (3-4) filled."""
    found = set()
    pattern = r"(\d)-(\d+)\)?(?: to \(?\1-(\d+))?"
    for chapter, first, last in re.findall(pattern, text):
        found |= {(int(chapter), k) for k in range(int(first), int(last or first) + 1)}
    return found


def test_functions_cite_the_equations_back() -> None:
    """What the formulation says a function implements, the function's own words say too."""
    text = (ROOT / "docs" / "formulation.md").read_text(encoding="utf-8")
    silent = []
    for number, names in re.findall(r"^\| (\(\d-\d+\)[^|]*)\|.*\|([^|]*)\|$", text, flags=re.M):
        for name in DOTTED.findall(names):
            found = resolve(name)
            if not callable(found):
                continue
            module = sys.modules[found.__module__]
            words = f"{found.__doc__} {module.__doc__}"
            if not cited(number) & cited(words):
                silent.append(f"{name} does not cite {number.strip()}")
    assert not silent


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [t for t in LINK.findall(page.read_text(encoding="utf-8")) if ":" not in t]
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing


def test_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.M))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"`([^`]+)`", text) + re.findall(r"^ {4,}(\S.*)$", text, flags=re.M)
        named = {m for c in code for m in re.findall(r"^make ([a-z]+)", c)}
        assert named <= targets, page_id(page)


def test_citation_is_complete_and_of_this_version() -> None:
    import raygrid

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == raygrid.__version__
    assert citation["license"] == "Apache-2.0"


def test_scripts_are_valid_shell() -> None:
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_the_example_community_is_complete(tmp_path: Path) -> None:
    """The files on the page make a valid case just as they stand there."""
    from raygrid.scenario.build import load_case

    page = (ROOT / "docs" / "own_community.md").read_text(encoding="utf-8")
    blocks = re.findall(
        r"`my/([\w.]+)`[^\n]*\n\n(?:[^`\n]*\n\n)?```\w+\n(.*?)```", page, flags=re.S
    )
    assert {name for name, _ in blocks} == {
        "scenario.yaml", "network.csv", "prosumers.csv", "profiles.csv",
    }  # fmt: skip
    for name, text in blocks:
        (tmp_path / name).write_text(text, encoding="utf-8")
    case = load_case(str(tmp_path / "scenario.yaml"))
    assert (len(case.population), case.network.n_buses, case.n_periods) == (3, 3, 4)
    assert case.period_hours == 6.0
    assert case.grid is not None
