"""Whatever a scenario file holds: it builds, or one line says why not."""

import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.files import scenario_path
from raygrid.scenario import load
from raygrid.scenario.build import build_case
from raygrid.scenario.case import Case

RAW = {
    name: load.read_raw(scenario_path(name)) for name in ("tiny", "community", "town", "village")
}
RAW["community"]["population"]["agents"] = 5
KEYS = sorted({key for definition in load.json_schema()["$defs"].values()
               for key in definition["properties"]} | {"source", "x", ""})  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.sampled_from([2**63, -(2**70), 10**400])
    | st.floats()
    | st.sampled_from(
        ["", "tables", "builtin", "case14", "network.csv", "..", "/", "\0", "raygrid:"]
    )
    | st.text(max_size=8)
    | st.dates()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(raw, at=()):
    """Every place in a nested mapping or list."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw)
    for key, value in items:
        yield (*at, key)
        if isinstance(value, (dict, list)) and value:
            yield from places(value, (*at, key))


def change(raw, place, action, value, key):
    raw = load._copy(raw)
    parent = raw
    for part in place[:-1]:
        parent = parent[part]
    if action == "replace":
        parent[place[-1]] = value
    elif action == "remove":
        del parent[place[-1]]
    elif isinstance(parent, dict):
        parent[key] = value
    else:
        parent.append(value)
    return raw


def is_one_line(error):
    text = str(error)
    return "\n" not in text and all((error.what, error.where, error.cure))


def parse(text):
    """The parsed text, or None where it is refused in one line."""
    refusal = None
    try:
        return load.parse_yaml(text, "fuzz.yaml")
    except InputError as error:
        refusal = error
    assert is_one_line(refusal)
    return None


def build_or_refuse(raw, base_dir):
    """Builds, or is refused in one line; sizes are kept small."""
    refusal = None
    try:
        scenario = load.validate(raw, "fuzz.yaml")
        agents = getattr(scenario.population, "agents", None)
        if scenario.horizon.periods * (agents or 1) > 20_000:
            return
        assert isinstance(build_case(scenario, base_dir=base_dir), Case)
    except InputError as error:
        refusal = error
    assert refusal is None or is_one_line(refusal)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_scenarios(data):
    name = data.draw(st.sampled_from(sorted(RAW)))
    raw = RAW[name]
    for _ in range(data.draw(st.integers(1, 3))):
        if not raw:
            break
        place = data.draw(st.sampled_from(sorted(places(raw), key=repr)))
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        raw = change(raw, place, action, data.draw(values), data.draw(st.sampled_from(KEYS)))
    build_or_refuse(raw, scenario_path(name).parent)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab1:-[]{}&*!|>%@'\"#,.\n \t\0"), max_size=40))
def test_any_text(text):
    raw = parse(text)
    if isinstance(raw, dict):
        with pytest.raises(InputError) as caught:
            load.validate(raw, "fuzz.yaml")
        assert is_one_line(caught.value)


TEXT = scenario_path("tiny").read_text()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.integers(0, 5), st.text(max_size=3))
def test_damaged_text(start, length, inserted):
    text = TEXT[:start] + inserted + TEXT[start + length :]
    raw = parse(text)
    if isinstance(raw, dict):
        build_or_refuse(raw, scenario_path("tiny").parent)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_tables(tmp_path, data):
    source = scenario_path("tiny").parent
    name = data.draw(st.sampled_from(["prosumers.csv", "profiles.csv", "network.csv", "buses.csv"]))
    text = (source / name).read_bytes()
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 6))
    inserted = data.draw(st.sampled_from([b"", b",", b"\n", b'"', b"-", b"nan", b"1e999", b"\xff",
                                          b"9" * 30, b"7", b"#", b"\0"]))  # fmt: skip
    folder = tmp_path / "case"
    shutil.copytree(source, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(text[:start] + inserted + text[start + length :])
    build_or_refuse(RAW["tiny"], folder)


@given(values)
def test_overrides(value):
    text = yaml.safe_dump(value, default_flow_style=True)
    try:
        raw = load.apply_overrides(RAW["tiny"], [f"market.rho={text}"])
    except InputError:
        return
    build_or_refuse(raw, scenario_path("tiny").parent)
