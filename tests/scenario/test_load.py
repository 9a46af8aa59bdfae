"""Scenario files: strictness, overrides, resolved form, schema."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from raygrid.errors import InputError
from raygrid.market.clearing import ClearingOptions
from raygrid.scenario import load
from raygrid.scenario.build import load_case
from raygrid.scenario.config import Scenario


def test_market_defaults_are_those_of_the_clearing():
    market = Scenario.model_fields["market"].default
    # Slow links and stragglers have sections of their own.
    names = {f.name for f in dataclasses.fields(ClearingOptions)} - {"staleness", "patience"}
    ours = {name: getattr(market, name) for name in names}
    assert ClearingOptions(**ours) == ClearingOptions()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("market.rh=0.2", r"market\.rh: unknown key; did you mean 'rho'\?"),
        ("market.rho=-1", r"market\.rho: -1 is refused; it should be greater than 0"),
        ("market.rho=.nan", r"market\.rho: nan is refused; it should be .*"),
        ("market.rho=0.1 kW", r"market\.rho: '0.1 kW' is refused; it should be a valid number"),
        ("horizon.period_minutes=15", r"horizon\.period_minutes: .*did you mean 'period_hours'"),
        ("horizon.periods=0", r"horizon\.periods: 0 is refused"),
        ("horizon.periods=true", r"horizon\.periods: True is refused"),
        ("periods=3", "periods: unknown key; it belongs in section 'horizon'"),
        ("network.source=x", "network: unknown source 'x'; one of 'tables', 'builtin', 'pand"),
        ("network.source=builtin", "unknown key .*known here: limits, name, reference_prosumers"),
        ("network.limits.lines=[{line: 1, limit_kw: -5}]", r"lines\[0\]\.limit_kw: -5 is refused"),
        ("network.limits.fixed_load_margin=1", "should be greater than or equal to 1.05"),
        ("tariffs.import_price_per_kwh=null", "give either `table` or `import_price_per_kwh`"),
        ("tariffs.import_price_per_kwh=[.1]", "1 prices for 24 periods"),
        ("tariffs.export_price_per_kwh=0.5", "0.5 is above the import price 0.24 in period 0"),
        (
            "tariffs.export_price_per_kwh=[{from_hour: 3, to_hour: 24, price_per_kwh: 0}]",
            "no block covers 0 h to 3 h",
        ),
        (
            "tariffs.export_price_per_kwh=[{from_hour: 0, to_hour: 24, price_per_kwh: 0},"
            "{from_hour: 23, to_hour: 24, price_per_kwh: 0}]",
            "two blocks cover 23 h",
        ),
        ("voltage={v_min_pu: 1.1}", "v_slack_pu 1 is outside v_min_pu 1.1"),
        ("name=a/b", "name: 'a/b' is refused"),
        ("network.slack_bus=77", "slack_bus 77 is at no line"),
        ("population.agents=0", r"population\.agents: 0 is refused"),
        ("population.agents=9", "9 agents are asked for, 6 are there"),
        ("horizon.periods=25", None),
        ("horizon={periods: 25, period_hours: 1}", "24 periods of 1 h end before the horizon of"),
        ("network.lines=none.csv", "none.csv: no such file"),
        ("network.lines=scenario.yaml", "'.yaml' is no table format"),
        ("market", "not of the form key=value"),
        ("name.x=1", "'name' is not a section"),
        ("network.limits.lines=[{line: 9, limit_kw: 5}]", "line 9 is not in the network"),
    ],
)
def test_wrong_values_are_refused_in_one_line(setting, message):
    if message is None:
        load_case("tiny", settings=[setting])
        return
    with pytest.raises(InputError, match=message) as caught:
        load_case("tiny", settings=[setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, not a mapping"),
        ("- 1", "is a list, not a mapping"),
        ("name: a\nname: b", "s.yaml:2: the key 'name' stands twice"),
        ("name: [", "s.yaml:1: "),
        ("a: &x [1]\nb: *x", r"s.yaml:2: aliases \(\*name\) are not supported"),
        ("1: 2", "the key 1 is not a text"),
        ("{[1]: 2}", "is not a text"),
        ("name: !!python/object:os.system x", "could not determine a constructor"),
        ("name: 2016-99-99", "not readable as YAML"),
        ("x: " + "[" * 3000, "nested too deeply"),
        ("name: a", "network: missing .*; add it"),
        ("x: \x00", "s.yaml"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, message):
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load.load_scenario(path)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_text(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match="not UTF-8"):
        load.load_scenario(path)


def test_unknown_scenario_names_the_closest():
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        load.load_scenario("tinny")
    with pytest.raises(InputError, match=r"shipped are .*tiny"):
        load.load_scenario("qqqqqqq")


def test_numbers_as_people_write_them():
    assert load.parse_yaml("x: [1e-4, 1E3, 1.5e-2, -2e+1]", "x") == {
        "x": [1e-4, 1e3, 1.5e-2, -20.0]
    }


def test_overrides_leave_the_original_and_make_sections():
    raw = {"a": {"b": 1}, "c": None}
    assert load.apply_overrides(raw, ["a.b=2", "c.d=[1, 2]", "e.f.g=x"]) == {
        "a": {"b": 2},
        "c": {"d": [1, 2]},
        "e": {"f": {"g": "x"}},
    }
    assert raw == {"a": {"b": 1}, "c": None}
    assert load.apply_flags({}, agents=3, periods=4, days=2, seed=5) == {
        "population": {"agents": 3},
        "horizon": {"periods": 4, "days": 2},
        "seed": 5,
    }


def test_schema_knows_every_key():
    schema = load.json_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == set(Scenario.model_fields)
    assert schema["additionalProperties"] is False
    for definition in schema["$defs"].values():
        assert definition["additionalProperties"] is False


def test_path_keys_cover_every_data_path():
    """A new key that holds a data path must be made portable too."""
    definitions = load.json_schema()["$defs"]
    found = {
        key
        for definition in definitions.values()
        for key, value in definition["properties"].items()
        if "data-path" in json.dumps(value)
    }
    assert found == load.PATH_KEYS


def test_resolved_form_stands_in_any_folder(tmp_path):
    scenario, base = load.load_scenario("tiny", periods=48, settings=["market.rho=0.3"])
    text = load.dump_resolved(scenario, base)
    raw = yaml.safe_load(text)
    assert raw["network"]["lines"] == "raygrid:tiny/network.csv"
    assert raw["horizon"]["period_hours"] == 0.5
    path = tmp_path / "scenario.resolved.yaml"
    path.write_text(text)
    again, base_2 = load.load_scenario(path)
    assert load.dump_resolved(again, base_2) == text
    assert again.market == scenario.market


def test_resolved_form_of_own_files_is_absolute(tmp_path):
    source = Path(load.scenario_path("tiny")).parent
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    scenario, base = load.load_scenario(tmp_path)
    raw = yaml.safe_load(load.dump_resolved(scenario, base))
    assert raw["network"]["lines"] == str(tmp_path / "network.csv")
