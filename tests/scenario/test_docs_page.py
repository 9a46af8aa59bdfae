"""docs/scenarios.md: its examples are valid, and it names every key."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from raygrid.scenario import load
from raygrid.scenario.build import load_case

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.split(":")[0])
def test_every_example_is_valid(block):
    """Each YAML block is a whole scenario, or sections to put into `tiny`."""
    base = load.read_raw(ROOT / "scenarios" / "tiny" / "scenario.yaml")
    load.validate(base | load.parse_yaml(block, "page"), "page")


def test_every_key_is_named():
    schema = load.json_schema()
    keys = {key for part in (*schema["$defs"].values(), schema) for key in part["properties"]}
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", PAGE)) == []


def test_shown_defaults_of_the_community_are_the_defaults():
    block = next(b for b in blocks("yaml") if "source: community" in b and "pv_share" in b)
    shown = load.parse_yaml(block, "page")["population"]
    base = load.read_raw(ROOT / "scenarios" / "community" / "scenario.yaml")
    base["population"] = {"source": "community"}
    default = yaml.safe_load(load.dump_resolved(load.validate(base, "x"), ROOT))["population"]
    assert shown == default | {"power_factor": 0.95}


@pytest.mark.slow
def test_own_pandapower_network(tmp_path):
    (code,) = blocks("python")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    (text,) = (block for block in blocks("yaml") if "path: net.json" in block)
    (tmp_path / "own.yaml").write_text(text)
    case = load_case(tmp_path / "own.yaml")
    assert case.network.bus_id.tolist() == [1, 2, 3]
    assert case.network.bus_id[case.network.slack] == 1
    # NAYY 4x50 SE carries 142 A at 0.4 kV.
    np.testing.assert_allclose(case.network.limit_kw, np.sqrt(3) * 0.4 * 142, rtol=1e-9)
    count = np.bincount(case.population.bus, minlength=3)
    assert count[0] == 0
    assert count[2] > count[1] > 0
