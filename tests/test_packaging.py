"""raygrid works as a checkout, as an editable install, as a wheel, and on Ray workers."""

from __future__ import annotations

import ast
import configparser
import json
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from actors.benchmarks.ray_nodes import clean_environment, ray_head

ROOT = Path(__file__).resolve().parent.parent
DATA_SUFFIXES = {".csv", ".json", ".md", ".npz", ".parquet", ".txt", ".yaml"}

REPORT = """
import json
import raygrid
from raygrid.files import list_scenarios, scenario_path
from raygrid.settlement.artifacts import load_artifact

names = list_scenarios()
contracts = load_artifact().source_hash
paths = [str(scenario_path(name)) for name in names]
texts = [scenario_path(name).read_text(encoding="utf-8") for name in names]
found = {"names": names, "paths": paths, "texts": texts, "contracts": contracts}
print(json.dumps({"package": raygrid.__file__, **found}))
"""
"""What a fresh interpreter says of where it found raygrid, its scenarios and its contracts."""


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def copy_sources(target: Path) -> Path:
    """The files that packaging needs, away from the checkout, which a build would litter."""
    target.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, target)
    for name in ("raygrid", "actors", "scenarios"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "contracts" / "artifacts", target / "contracts" / "artifacts")
    return target


def run(python: Path | str, *arguments: str, cwd: Path, **environment: str) -> str:
    """Standard output of an interpreter that sees nothing of this checkout."""
    done = subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env=clean_environment(python) | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def new_environment(folder: Path) -> Path:
    """A virtual environment that borrows this one's libraries but not its raygrid.

    A path line of a .pth file adds the folder only; the .pth files in it, an editable
    raygrid's among them, are not read.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(own) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def pip_install(python: Path, *arguments: str, cwd: Path) -> None:
    run(
        sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
        "--no-index", "--no-build-isolation", "--ignore-installed", *arguments, cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_sources(folder / "source")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
        "--no-build-isolation", "--wheel-dir", str(folder), str(source), cwd=folder,
    )  # fmt: skip
    return next(folder.glob("raygrid-*.whl"))


def check_report(report: dict[str, Any], where: Path) -> None:
    """The report of a fresh interpreter comes from `where` and agrees with the checkout."""
    from raygrid.files import list_scenarios, scenario_path
    from raygrid.settlement.artifacts import load_artifact

    names = list_scenarios()
    assert "tiny" in names
    assert Path(report["package"]).resolve().is_relative_to(where.resolve())
    assert all(Path(p).resolve().is_relative_to(where.resolve()) for p in report["paths"])
    assert report["names"] == names
    assert report["contracts"] == load_artifact().source_hash
    assert report["texts"] == [scenario_path(n).read_text(encoding="utf-8") for n in names]


def test_every_package_is_listed() -> None:
    mapped = {"raygrid.contracts", "raygrid.scenarios"}
    listed = set(setup_cfg()["options"]["packages"].split()) - mapped
    found = {
        ".".join(p.parent.relative_to(ROOT).parts)
        for name in ("raygrid", "actors")
        for p in (ROOT / name).rglob("__init__.py")
    }
    assert listed == found


def test_every_requirement_is_bounded_below_and_above() -> None:
    config = setup_cfg()
    lines = config["options"]["install_requires"].split("\n")
    for extra in config["options.extras_require"].values():
        lines += extra.split("\n")
    unbounded = [
        x for x in lines if x and not re.fullmatch(r"[\w\[\]-]+(>=[\d.]+,<[\d.]+|==.+)", x)
    ]
    assert not unbounded


def requirement_names(lines: str) -> set[str]:
    return {re.split(r"[\[>=<]", line)[0] for line in lines.split()}


def test_declared_dependencies_are_the_imported_ones() -> None:
    """No library is imported undeclared, none declared in vain."""
    imported = set()
    elsewhere = ROOT / "actors" / "benchmarks" / "pycity_program.py"  # in another environment
    for path in [*(ROOT / "raygrid").rglob("*.py"), *(ROOT / "actors").rglob("*.py")]:
        if path == elsewhere:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= set(sys.stdlib_module_names) | {"raygrid", "actors"}
    # Ray is what the actors stand on, and brings the grpc whose errors they tell apart.
    names = {"yaml": "pyyaml", "grpc": "ray", "eth": "py-evm", "sklearn": "scikit-learn"}
    used = {names.get(name, name).replace("_", "-") for name in imported} | {"ray"}
    config = setup_cfg()
    declared = requirement_names(config["options"]["install_requires"])
    extras = config["options.extras_require"]
    extra = set().union(*(requirement_names(extras[name]) for name in extras if name != "dev"))
    assert declared <= used <= declared | extra


def test_wheel_holds_code_and_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {n for n in archive.namelist() if ".dist-info/" not in n}
        info = {n.split("/", 1)[1] for n in archive.namelist() if ".dist-info/" in n}
    code = {
        str(p.relative_to(ROOT))
        for name in ("raygrid", "actors")
        for p in (ROOT / name).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    data = {
        f"raygrid/{p.relative_to(ROOT)}"
        for p in (ROOT / "scenarios").rglob("*")
        if p.suffix in DATA_SUFFIXES
    }
    data |= {
        f"raygrid/{p.relative_to(ROOT)}" for p in (ROOT / "contracts" / "artifacts").glob("*.json")
    }
    assert inside == code | data
    assert {"LICENSE", "NOTICE", "entry_points.txt"} <= {Path(n).name for n in info}


def test_a_job_gets_what_the_wheel_holds(wheel: Path, tmp_path: Path) -> None:
    from actors.package import stage_package

    stage_package(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    staged = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert staged >= inside


def test_found_from_a_checkout() -> None:
    check_report(json.loads(run(sys.executable, "-c", REPORT, cwd=ROOT)), ROOT)


@pytest.mark.slow
def test_found_from_an_editable_install(tmp_path: Path) -> None:
    source = copy_sources(tmp_path / "source")
    python = new_environment(tmp_path / "venv")
    pip_install(python, "--editable", str(source), cwd=tmp_path)
    check_report(json.loads(run(python, "-c", REPORT, cwd=tmp_path)), source)


@pytest.mark.slow
def test_found_from_a_wheel(wheel: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "venv")
    pip_install(python, str(wheel), cwd=tmp_path)
    check_report(json.loads(run(python, "-c", REPORT, cwd=tmp_path)), tmp_path / "venv")
    assert (tmp_path / "venv" / "bin" / "raygrid").exists()


RAY_PROGRAM = """
import contextlib, io, json, sys, time
import ray
from ray.job_submission import JobStatus, JobSubmissionClient

wheel, report_code, address, dashboard = sys.argv[1:]
environment = {"py_modules": [wheel]}
ray.init(address=address, log_to_driver=False, logging_level="error", runtime_env=environment)

@ray.remote(num_cpus=1)
def report():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(report_code, {})
    return json.loads(out.getvalue())

client = JobSubmissionClient(dashboard)
deadline = time.monotonic() + 120
while True:
    try:
        job = client.submit_job(
            entrypoint="python -m raygrid scenario list", runtime_env=environment
        )
        break
    except RuntimeError as error:
        # The node's agent, which starts jobs, comes up some time after its node.
        if "No available agent" not in str(error) or time.monotonic() > deadline:
            raise
        time.sleep(0.5)
worker = ray.get(report.remote(), timeout=120)
deadline = time.monotonic() + 120
while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
    time.sleep(0.2)
print(json.dumps(
    {
        "worker": worker,
        "job": client.get_job_status(job) == JobStatus.SUCCEEDED,
        "log": client.get_job_logs(job),
    }
))
ray.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_found_on_a_ray_worker_and_in_a_ray_job(wheel: Path, tmp_path: Path) -> None:
    """The driver has no raygrid at all: theirs comes from the wheel in `py_modules`.

    Ray hands such a wheel to plain pip, which would fetch every dependency again, were it
    not told PIP_NO_DEPS.
    """
    python = new_environment(tmp_path / "venv")
    program = tmp_path / "program.py"
    program.write_text(RAY_PROGRAM, encoding="utf-8")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Ray's sockets lie in its folder, and their paths are limited to 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="ray") as folder,
        ray_head(python, Path(folder), PIP_NO_DEPS="1", **token) as head,
    ):
        addresses = (head.address, head.dashboard)
        out = run(python, str(program), str(wheel), REPORT, *addresses, cwd=tmp_path, **token)
    told = json.loads(out.strip().splitlines()[-1])
    assert "py_modules_files" in told["worker"]["package"]
    check_report(told["worker"], Path(told["worker"]["package"]).parent)
    assert told["job"], told["log"]
    assert all(name in told["log"] for name in told["worker"]["names"])
