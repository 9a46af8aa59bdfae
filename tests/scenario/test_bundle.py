"""A scenario that travels clears the same market elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from raygrid.errors import InputError
from raygrid.files import data_root, scenario_path
from raygrid.scenario.build import build_case
from raygrid.scenario.bundle import write_bundle
from raygrid.scenario.load import load_scenario


def test_own_files_travel_and_the_settings_with_them(tmp_path: Path) -> None:
    own = shutil.copytree(Path(scenario_path("tiny")).parent, tmp_path / "own")
    scenario, base_dir = load_scenario(own, settings=["market.rho=0.3"], periods=6)
    before = build_case(scenario, base_dir=base_dir)
    folder = tmp_path / "bundle"
    folder.mkdir()
    path = write_bundle(scenario, base_dir, folder, "scenario.yaml")
    shutil.rmtree(own)
    moved = folder.rename(tmp_path / "elsewhere")
    again, base_dir = load_scenario(moved / path.name)
    after = build_case(again, base_dir=base_dir)
    assert again.market.rho == 0.3
    assert after.n_periods == 6
    np.testing.assert_array_equal(after.network.x_pu, before.network.x_pu)
    np.testing.assert_array_equal(after.population.prosumer_id, before.population.prosumer_id)


def test_shipped_data_stays_out(tmp_path: Path) -> None:
    path = write_bundle(*load_scenario("tiny"), tmp_path, "tiny.yaml")
    assert list(tmp_path.iterdir()) == [path]
    assert load_scenario(path)[0].name == "tiny"


def test_two_scenarios_share_a_folder(tmp_path: Path) -> None:
    root = data_root("scenarios") / "tiny"
    for name in ("a", "b"):
        own = shutil.copytree(root, tmp_path / name)
        write_bundle(*load_scenario(own), tmp_path, f"{name}.yaml")
    raw = yaml.safe_load((tmp_path / "a.yaml").read_text())
    assert raw["network"]["lines"].startswith("data/a/")
    assert load_scenario(tmp_path / "b.yaml")[0].name == "tiny"


def test_data_that_is_gone(tmp_path: Path) -> None:
    own = shutil.copytree(data_root("scenarios") / "tiny", tmp_path / "own")
    scenario, base_dir = load_scenario(own)
    (own / "network.csv").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"tiny:network\.lines: .*network\.csv cannot be read"):
        write_bundle(scenario, base_dir, tmp_path / "out", "scenario.yaml")
