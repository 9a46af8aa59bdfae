"""Committed results are whole, and the documents quote them as they are."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THESIS = ROOT / "results" / "thesis"
AI_TEM = ROOT / "results" / "ai_tem" / "cases"


def read_csv(name: str) -> list[dict[str, str]]:
    with (THESIS / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def quoted(header: str) -> list[list[str]]:
    """Rows of the table of docs/results.md that begins with this header."""
    lines = iter((ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line == header:
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    raise AssertionError(f"no table {header}")


@pytest.mark.parametrize("folder", [THESIS, AI_TEM], ids=["thesis", "ai_tem"])
def test_stored_files_are_those_of_the_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "ok"
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_the_page_of_ai_tem_quotes_its_tables() -> None:
    """Word for word, below the heading 'What comes out'."""
    stored = set((AI_TEM / "tables.md").read_text(encoding="utf-8").splitlines())
    page = (ROOT / "docs" / "ai-tem.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## What comes out")[2].splitlines() if line[:1] == "|"]
    assert len(rows) > 20
    assert [row for row in rows if row not in stored] == []


def test_the_page_quotes_the_stored_tables() -> None:
    stored = set()
    for row in read_csv("comparison.csv"):
        method = "ADMM" if row["method"] == "admm" else "central"
        limits = "with" if row["network_constrained"] == "true" else "no"
        quantity = row["quantity"].replace("_percent", " [%]").replace("_", " ")
        case = f"{row['scenario']}, {method}, {limits} limits"
        stored.add((row["table"], case, quantity, row["printed_text"], row["ours_text"]))
    rows = quoted("| Table | Case | Quantity | Printed | Ours |")
    assert len(rows) > 20
    assert {tuple(row) for row in rows} <= stored


def test_the_page_quotes_the_stored_sweep() -> None:
    stored = [
        [f"{float(row['rho']):g}", row["iterations"], f"{100 * float(row['gap']):.4f}"]
        for row in read_csv("rho_sweep.csv")
    ]
    assert quoted("| rho | iterations | gap [%] |") == stored
