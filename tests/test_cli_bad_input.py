"""Wrong input to the real commands: one line with place and cure, exit code 2, nothing left."""

import shutil
import socket
import sys
from pathlib import Path

import pytest

from raygrid import cli
from raygrid.files import scenario_path

TINY = Path(scenario_path("tiny")).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of `tiny` to damage, and no Ray to start."""

    def no_ray(options):
        raise AssertionError("Ray was started on wrong input")

    monkeypatch.setattr("actors.cluster._start_local", no_ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Path(shutil.copytree(TINY, tmp_path / "case"))


@pytest.fixture
def refused(folder, monkeypatch, capsys):
    """Run a command that must be refused; returns its one line."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["raygrid", *arguments])
        before = sorted(folder.rglob("*"))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        shown = capsys.readouterr()
        assert caught.value.code == 2, shown.err
        assert shown.out == ""
        assert shown.err.startswith("raygrid: ")
        assert shown.err.count("\n") == 1
        assert sorted(folder.rglob("*")) == before
        return shown.err

    return run


def simulate(folder, *arguments):
    return ("simulate", str(folder), "--out", str(folder / "runs"), *arguments)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--set", "market.rh=1"], "scenario.yaml:market.rh: unknown key; did you mean 'rho'?"),
        (["--set", "horizon.period_minutes=15"], "did you mean 'period_hours'?"),
        (["--set", "market.rho=0.1 kW"], "market.rho: '0.1 kW' is refused; it should be a valid"),
        (["--set", "market.rho=-1"], "market.rho: -1 is refused; it should be greater than 0"),
        (["--set", "market"], "--set market: not of the form key=value"),
        (["--set", "market.rho=["], "--set market.rho=[:1: "),
        (["--set", "currency="], "currency: None is refused; it should be a valid string"),
        (["--set", "currency=''"], "currency: '' is refused; it should have at least 1 char"),
        (["--set", "name=../x"], "name: '../x' is refused; it should match"),
        (["--set", "tariffs.import_price_per_kwh=.nan"], "nan is refused; it should be"),
        (["--set", "tariffs.import_price_per_kwh=1e9"], "is refused; it should be less than"),
        (["--set", "tariffs.export_price_per_kwh=0.5"], "above the import price 0.24 in period 0"),
        (["--set", "network.limits.lines=[{line: 1, limit_kw: -5}]"], "limit_kw: -5 is refused"),
        (["--days", "3"], "24 periods of 1 h end before the horizon of 72 h"),
        (
            ["--set", "network={source: pandapower, path: g.json}"],
            "g.json: there is no such file; correct",
        ),
        (["--set", "network={source: builtin, name: case15}"], "no network 'case15'; use one of"),
        (["--set", "population.profiles=p.parquet"], "p.parquet: no such file"),
        (["--agents", "0"], "population.agents: 0 is refused; it should be greater than or equal"),
        (["--agents", "7"], "7 agents are asked for, 6 are there"),
        (["--agents", "many"], "see 'raygrid simulate --help'"),
        (["--periods", "0"], "horizon.periods: 0 is refused"),
        (["--periods", "1000000000"], "horizon.periods: 1000000000 is refused"),
        (["--seed", "-1"], "seed: -1 is refused"),
        (["--actors", "0"], "--actors: '0' is no placement; give 'each', 'auto' or a number"),
        (["--actors", "1.5"], "--actors: '1.5' is no placement"),
        (["--actors", "7"], "--actors: 7 actors for 6 prosumers; ask for at most 6, or 'each'"),
        (["--address", "nonsense"], "--address: 'nonsense' is not an address"),
        (["--address", "localhost:99999"], "--address: 'localhost:99999' is not an address"),
        (["--frob"], "No such option '--frob'; see 'raygrid simulate --help'"),
        (["more"], "Got unexpected extra argument"),
    ],
)
def test_options_and_settings(refused, folder, arguments, line):
    assert line in refused(*simulate(folder, *arguments))


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("profiles.csv", "1,1,0,0,0,0.1,0.2", "1,1,0,0,0,nan,0.2",
         "profiles.csv: row 3, column demand_limit_kw: nan is not a number; give a finite number"),
        ("profiles.csv", "1,1,0,0,0,0.1,0.2", "1,1,0,0,0,,0.2", "demand_limit_kw: empty; give a"),
        ("profiles.csv", "1,1,0,0,0,0.1,0.2\n", "",
         "period 1 of prosumer 1 is missing; give every period from 0 to 23"),
        ("profiles.csv", "1,1,0,0,0,0.1,0.2\n", "1,2,0,0,0,0.1,0.2\n", "a second row for"),
        ("profiles.csv", "1,1,0,0,0,0.1,0.2", "1,1,0,0,0,0.1 kW,0.2", "'0.1 kW' is not a number"),
        ("profiles.csv", "1,1,0,0,0,0.1,0.2", "1,1,0,0,0,0.1,-0.2",
         "row 3, column fixed_load_kw: -0.2 is negative; give zero or more"),
        ("profiles.csv", "1,1,0,0,0,0.1,0.2", "1,1,0,0,0,0.1,1e12",
         "fixed_load_kw is 1000000000000.0, above 1e+08; check its unit (kW, kWh, currency/kWh)"),
        ("profiles.csv", "fixed_load_kw", "fixed_load_w", "did you mean 'fixed_load_kw'?"),
        ("prosumers.csv", "1,3,prosumer", "1,33,prosumer",
         "prosumers.csv: row 2, column bus: bus 33 is not in the network; use one of 1, 2, 3, 4"),
        ("prosumers.csv", "1,3,prosumer", "1,3,producer", "'producer' is no role; write"),
        ("prosumers.csv", "1,3,prosumer,0.001", "1,3,prosumer,-0.001", "-0.001 is negative"),
        ("prosumers.csv", "2,9,5,5,4,4", "2,9e300,5,5,4,4", "soc_max_kwh is 9e+300, above 1e+08"),
        ("prosumers.csv", "2,9,5,5,4,4", "2,9,1,5,4,4",
         "prosumer 2, column soc_initial_kwh: soc_initial_kwh of 1.0 is outside soc_min_kwh to"),
        ("prosumers.csv", "2,9,5,5,4,4", "2,900,5,800,4,4",
         "soc_final_min_kwh of 800.0 cannot be reached from 5 kWh; ask for at most 96.2 kWh"),
        ("prosumers.csv", "0.95,0.95", "95,0.95", "efficiency outside (0, 1]; give e.g. 0.95"),
        ("prosumers.csv", "omega", "om", "unknown column 'om'; known are"),
        ("network.csv", "0.0012,6,0", "0.0012,-6,0", "column limit_kw: -6 is negative"),
        ("network.csv", "0.002,0.0012,6", "0.002,0,6", "a line without reactance; merge"),
        ("network.csv", "0.002,0.0012,6", "0.002,1e-300,6",
         "x_pu from 1e-300 (line 2) to 0.0015 (line 4) is too wide a range; merge buses"),
        ("network.csv", "4,2,5,", "4,6,5,", "bus 5, 6 not connected to the slack bus 1"),
        ("scenario.yaml", "slack_bus: 1", "slack_bus: 9", "slack_bus 9 is at no line"),
        ("scenario.yaml", "name: tiny", "name: [", "scenario.yaml:"),
    ],
)  # fmt: skip
def test_damaged_files(refused, folder, file, old, new, line):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    if file == "network.csv":
        (folder / "buses.csv").unlink()
        settings = ["--set", "network.buses=null"]
    else:
        settings = []
    assert line in refused(*simulate(folder, *settings))


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("profiles.csv", b"\xff\xfe\x00\x01", "profiles.csv: cannot be read"),
        ("profiles.csv", b"", "profiles.csv: cannot be read (Empty CSV file); mend the file"),
        ("p.parquet", b"PAR1nonsensePAR1", "p.parquet: cannot be read"),
        ("scenario.yaml", b"\x00\xff", "scenario.yaml: not UTF-8 text; save the file as UTF-8"),
        ("scenario.yaml", b"", "scenario.yaml: the file is empty, not a mapping"),
        ("scenario.yaml", b"name: tiny\n\tx: 1\n", "scenario.yaml:2: "),
    ],
)
def test_files_of_rubbish(refused, folder, file, content, line):
    (folder / file).write_bytes(content)
    extra = ["--set", f"population.profiles={file}"] if file == "p.parquet" else []
    assert line in refused(*simulate(folder, *extra))


def test_unreadable_scenario(refused, folder):
    assert "cannot be read" in refused("simulate", "/proc/self/mem", "--out", str(folder / "r"))
    line = refused("simulate", str(folder / "none.yaml"), "--out", str(folder / "r"))
    assert "no such scenario or file" in line


def test_results_folder_that_cannot_be_written(refused, folder):
    for out in (f"{folder}/network.csv", f"{folder}/network.csv/a/b", "/proc/x", "/dev/null",
                f"{folder}/{'a' * 300}"):  # fmt: skip
        line = refused("simulate", str(folder), "--out", out)
        assert "results cannot be written there (" in line
        assert line.endswith("; name a folder that can be written\n")
    (folder / "runs").mkdir()
    (folder / "runs" / "tiny").write_text("in the way of the scenario's folder")
    assert "runs/tiny: results cannot be written" in refused(*simulate(folder))


def test_results_in_object_storage(refused, folder):
    line = refused("simulate", str(folder), "--out", "s3://bucket/runs")
    assert "--out s3:/bucket/runs/tiny: a run replaces its files atomically" in line
    assert "mount it and name the folder" in line


def test_address_that_does_not_answer(refused, folder, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    line = refused(*simulate(folder, "--address", address))
    assert f"{address}: no Ray cluster answers" in line
    assert "check that its head node runs" in line
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert "no Ray cluster answers" in refused(*simulate(folder))


@pytest.mark.parametrize(
    ("manifest", "line"),
    [
        (None, "manifest.json: it cannot be read (No such file or directory); name the folder"),
        ("{", "manifest.json: it cannot be read (Expecting"),
        ("[]", "manifest.json: it is no mapping; name the folder of a raygrid run"),
        ("{}", "manifest.json: its layout is version None"),
        ('{"schema_version": 1, "status": "ok"}', "manifest.json: it lacks cluster, command"),
    ],
)
def test_report_of_what_is_no_run(refused, folder, manifest, line):
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    assert line in refused("report", str(folder))
    assert line in refused("report", str(folder), "--allow-unfinished")


def test_report_of_what_is_not_there(refused, folder):
    assert "none/manifest.json: it cannot be read" in refused("report", str(folder / "none"))
    assert "it cannot be read (Not a dir" in refused("report", str(folder / "network.csv"))


def test_commands_that_are_not_there(refused):
    assert "No such command 'simulat" in refused("simulation")
    assert "see 'raygrid scenario --help'" in refused("scenario", "shwo")
    assert "did you mean 'tiny'" in refused("scenario", "validate", "tinny")
    assert "did you mean 'tiny'" in refused("scenario", "show", "tinny")
