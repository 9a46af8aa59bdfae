"""The files of cluster/ say what Ray's launcher and KubeRay understand, and what fits raygrid."""

from __future__ import annotations

import configparser
import importlib.resources
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from raygrid import __version__

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
MANIFESTS = ("raycluster.yaml", "rayjob.yaml")


def load(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def strict(schema: Any) -> Any:
    """The schema as Kubernetes checks it strictly: fields that it does not know are refused."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(part) for key, part in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", bool(open_ended))
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


@pytest.fixture(scope="module")
def kuberay() -> dict[str, Any]:
    """Schemas of KubeRay's resources by kind; the file says where they come from."""
    raw = json.loads((Path(__file__).parent / "kuberay.json").read_text(encoding="utf-8"))
    return {
        kind: {**strict(raw[kind]), "$defs": strict(raw["$defs"])}
        for kind in ("RayCluster", "RayJob")
    }


def specs(manifest: dict[str, Any]) -> dict[str, Any]:
    """The cluster of either kind of manifest."""
    spec = manifest["spec"]
    return spec if manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]


def groups(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = specs(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_fit_the_schema_of_kuberay(name: str, kuberay: dict[str, Any]) -> None:
    manifest = load(f"kubernetes/{name}")
    jsonschema.validate(manifest, kuberay[manifest["kind"]])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m["spec"].update(headGroup={}),
        lambda m: specs(m)["headGroupSpec"].update(rayStartParams={"num-cpus": 0}),
        lambda m: specs(m)["authOptions"].update(mode="on"),
        lambda m: specs(m)["workerGroupSpecs"][0].update(replicas="two"),
        lambda m: specs(m)["workerGroupSpecs"][0]["template"]["spec"].update(container=[]),
        lambda m: specs(m)["workerGroupSpecs"][0].pop("template"),
    ],
)
@pytest.mark.parametrize("name", MANIFESTS)
def test_the_check_finds_mistakes(name: str, spoil: Any, kuberay: dict[str, Any]) -> None:
    manifest = deepcopy(load(f"kubernetes/{name}"))
    spoil(manifest)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, kuberay[manifest["kind"]])


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_agree_with_raygrid(name: str) -> None:
    manifest = load(f"kubernetes/{name}")
    assert specs(manifest)["rayVersion"] == ray_version()
    assert specs(manifest)["authOptions"] == {"mode": "token"}
    claim = load("kubernetes/results.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in groups(manifest):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        (mount,) = container["volumeMounts"]
        (volume,) = pod["volumes"]
        assert mount == {"mountPath": "/results", "name": volume["name"]}
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_job_is_a_command_that_there_is() -> None:
    from raygrid.cli import cli

    words = load("kubernetes/rayjob.yaml")["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "raygrid", "simulate"]
    context = cli.commands["simulate"].make_context("simulate", words[4:])
    assert context.params["out"] == Path("/results")


def test_the_launcher_file_fits_rays_schema() -> None:
    config = load("onprem.yaml")
    source = importlib.resources.files("ray.autoscaler").joinpath("ray-schema.json")
    jsonschema.validate(config, json.loads(source.read_text(encoding="utf-8")))
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    for command in (*head, *worker):
        assert "RAY_AUTH_MODE=token" in command
        assert "--disable-usage-stats" in command
        assert "ray stop" not in command
    assert any(f"raygrid-{__version__}-" in name for name in config["file_mounts"])
    assert any(f"ray[default]=={ray_version()}" in line for line in config["setup_commands"])


def test_the_launcher_completes_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = load("onprem.yaml")
    config["file_mounts"] = {}
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["provider"]["type"] == "local"


def test_the_container_has_the_versions_that_are_tested() -> None:
    text = (CLUSTER / "Containerfile").read_text(encoding="utf-8")
    python = re.search(r"ARG PYTHON=(3\.\d+)", text)
    ray = re.search(r"ARG RAY=(\S+)", text)
    assert python is not None
    assert ray is not None
    assert python[1] in ("3.11", "3.12", "3.13")
    assert ray[1] == ray_version()
    assert "wget" in text


def test_the_health_check_is_the_same_everywhere() -> None:
    """About 15 s, as the page says."""
    wanted = {
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "5",
    }
    for name in MANIFESTS:
        (container,) = groups(load(f"kubernetes/{name}"))[0]["template"]["spec"]["containers"]
        assert {entry["name"]: entry["value"] for entry in container["env"]} == wanted
    (command,) = load("onprem.yaml")["head_start_ray_commands"]
    page = (CLUSTER / "README.md").read_text(encoding="utf-8")
    for variable, value in wanted.items():
        assert f"{variable}={value}" in command
        assert f"{variable}={value}" in page


def ray_version() -> str:
    """The Ray that setup.cfg asks for at least, which the tests run with."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    bound = re.search(r"ray\[default\]>=([\d.]+),", config["options"]["install_requires"])
    assert bound is not None
    return f"{bound[1]}.0" if bound[1].count(".") == 1 else bound[1]
