"""Jobs without a cluster: addresses, refusals, what is uploaded and what comes back."""

from __future__ import annotations

import io
import json
import platform
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray

from actors import jobs, pack
from actors.dashboard import check_address, probe_dashboard
from actors.jobs import Job, JobRequest, JobsClient, check_out, exit_code
from actors.package import PACKAGES, stage_package
from raygrid.errors import EndedShortError, ExitCode, InputError

Serve = Callable[[dict[str, tuple[int, object]]], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server that gives fixed answers: what a cluster of another make would say."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    servers = []

    def start(answers: dict[str, tuple[int, object]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, body = answers.get(self.path, (404, "nothing here"))
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def versions(ray_version: str, python: str) -> dict[str, tuple[int, object]]:
    about = {"version": "4", "ray_version": ray_version, "ray_commit": "", "session_name": ""}
    data = {"rayVersion": ray_version, "pythonVersion": python}
    return {
        "/api/version": (200, about),
        "/api/v0/cluster_metadata": (200, {"result": True, "msg": "", "data": data}),
    }


SAME = versions(ray.__version__, platform.python_version())


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://head:8265", "http://head:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("https://head", "https://head"),
        ("http://[fd00::1]:8265", "http://[fd00::1]:8265"),
    ],
)
def test_addresses_of_a_dashboard(given: str, used: str) -> None:
    assert check_address(given) == used


@pytest.mark.parametrize(
    "address",
    ["head:8265", "ray://head:10001", "http://", "http://head:99999", "http://head:8265/x", "auto"],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="is not the address of a Ray dashboard; give http://HEAD"):
        check_address(address)


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(InputError, match=r"no Ray cluster answers \(.*refused\); check that"):
        JobsClient(address)


def test_a_silent_server_costs_no_more_than_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(InputError, match="no Ray cluster answers"):
            probe_dashboard(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)


@pytest.mark.parametrize("answers", [{}, {"/api/version": (200, "hello")}])
def test_another_server(serve: Serve, answers: dict[str, tuple[int, object]]) -> None:
    with pytest.raises(InputError, match="what listens there is not Ray's dashboard"):
        JobsClient(serve(answers))


def test_the_address_wins_over_the_environment(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.255.255.1:6379")
    address = serve(SAME)
    assert JobsClient(address).address == address


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (("2.9.0", platform.python_version()), "the cluster runs Ray 2.9.0, this machine"),
        ((ray.__version__, "3.8.1"), "the cluster runs Python 3.8.1, this machine 3"),
    ],
)
def test_other_versions(serve: Serve, theirs: tuple[str, str], told: str) -> None:
    client = JobsClient(serve(versions(*theirs)))
    with pytest.raises(InputError, match=told):
        client.submit(JobRequest("tiny", ("simulate", "tiny")))


def test_a_patch_release_of_python_is_no_difference(serve: Serve) -> None:
    minor = ".".join(platform.python_version_tuple()[:2])
    JobsClient(serve(versions(ray.__version__, f"{minor}.99"))).check_versions()


def test_a_cluster_that_refuses_the_token(serve: Serve) -> None:
    address = serve({"/api/version": (401, "Unauthorized: missing token")})
    with pytest.raises(InputError, match="asks for another token; set RAY_AUTH_MODE=token"):
        JobsClient(address)


def test_an_upload_that_the_cluster_refuses(serve: Serve) -> None:
    answers = SAME | {"/api/jobs/": (413, "Request Entity Too Large")}
    client = JobsClient(serve(answers))
    with pytest.raises((InputError, EndedShortError)) as caught:
        client._start("x", ["true"], {}, {})
    assert isinstance(caught.value, InputError)
    assert "than the 100 MiB that a cluster takes with a job" in str(caught.value)


def test_a_job_that_is_not_there(serve: Serve) -> None:
    with pytest.raises(InputError, match="x: there is no such job of raygrid; see 'raygrid jobs"):
        JobsClient(serve(SAME)).job("x")


def test_a_working_folder_that_is_too_large(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "UPLOAD_BYTES", 1000)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 2)
    (folder / "more.bin").write_bytes(b"\x00" * 100_000)
    jobs._zip(folder, tmp_path / "fits.zip")
    import random

    (folder / "noise.bin").write_bytes(random.Random(1).randbytes(2000))
    client = JobsClient(serve(SAME))
    with pytest.raises(InputError, match=r"MiB packed, more than .* put the scenario on storage"):
        client.submit(JobRequest("own", ("simulate", "scenario.yaml")), folder)


def test_the_same_folder_gives_the_same_archive(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "a.csv").write_text("a\n1\n")
    first = jobs._zip(folder, tmp_path / "1.zip").read_bytes()
    assert jobs._zip(folder, tmp_path / "2.zip").read_bytes() == first
    assert zipfile.ZipFile(io.BytesIO(first)).namelist() == ["data/a.csv"]


def test_a_folder_that_the_job_cannot_have() -> None:
    assert check_out(Path("/shared/results")) == "/shared/results"
    with pytest.raises(InputError, match=r"--out runs: .* give an absolute path"):
        check_out(Path("runs"))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, ExitCode.DONE),
        ("FAILED", 2, ExitCode.BAD_INPUT),
        ("FAILED", 1, ExitCode.ENDED_SHORT),
        ("FAILED", 137, ExitCode.ENDED_SHORT),
        ("FAILED", None, ExitCode.ENDED_SHORT),
        ("STOPPED", 0, ExitCode.ENDED_SHORT),
    ],
)
def test_exit_code_of_a_job(status: str, code: int | None, expected: ExitCode) -> None:
    assert exit_code(Job("j", status, "tiny", "/x", 0.0, 1.0, code, "")) is expected


# --- the package -----------------------------------------------------------------------------


def test_the_package_is_laid_out_as_a_wheel(tmp_path: Path) -> None:
    folders = stage_package(tmp_path)
    assert [folder.name for folder in folders] == list(PACKAGES)
    assert (tmp_path / "raygrid" / "scenarios" / "tiny" / "scenario.yaml").is_file()
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_wheel_is_unpacked(tmp_path: Path) -> None:
    wheel = tmp_path / "raygrid-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("raygrid/__init__.py", "actors/__init__.py", "raygrid-0.dist-info/METADATA"):
            archive.writestr(name, "")
    folder = tmp_path / "packages"
    folder.mkdir()
    stage_package(folder, wheel)
    assert sorted(path.name for path in folder.iterdir()) == ["actors", "raygrid"]


@pytest.mark.parametrize("content", [None, b"no wheel", {"numpy/__init__.py": ""}])
def test_what_is_no_wheel_of_raygrid(tmp_path: Path, content: object) -> None:
    wheel = tmp_path / "x.whl"
    if isinstance(content, bytes):
        wheel.write_bytes(content)
    elif isinstance(content, dict):
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    with pytest.raises(InputError, match=r"--wheel .*x\.whl: it .*; give the file that 'make"):
        stage_package(tmp_path / "packages", wheel)


# --- results that come home ------------------------------------------------------------------


def run_folder(out: Path, name: str, job: str) -> Path:
    folder = out / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"job": job, "status": "ok"}))
    (folder / "data.bin").write_bytes(name.encode() * 50_000)
    return folder


def test_results_travel_through_a_log(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    run_folder(there, "tiny/1", "a")
    run_folder(there, "tiny/2", "b")
    study = run_folder(there, "study", "a")
    run_folder(study, "runs/tiny/3", "a")
    (there / "stray.txt").write_text("nobody's")
    stream = io.StringIO()
    pack.send(there, "a", stream)
    log = f"Running entrypoint\n{stream.getvalue()}bye\n"
    assert pack.receive(log, here) == [here / "study", here / "tiny/1"]
    assert (here / "tiny/1/data.bin").read_bytes() == (there / "tiny/1/data.bin").read_bytes()
    assert (here / "study/runs/tiny/3/manifest.json").is_file()
    assert sorted(path.name for path in here.iterdir()) == ["study", "tiny"]
    (here / "tiny/1/data.bin").write_text("mine")
    assert pack.receive(log, here) == [here / "study", here / "tiny/1"]
    assert (here / "tiny/1/data.bin").read_text() == "mine"


def test_a_log_that_was_cut_or_changed(tmp_path: Path) -> None:
    run_folder(tmp_path / "there", "tiny/1", "a")
    stream = io.StringIO()
    pack.send(tmp_path / "there", "a", stream)
    lines = stream.getvalue().splitlines()
    with pytest.raises(ValueError, match="incomplete"):
        pack.receive("\n".join(lines[:-1]), tmp_path / "here")
    lines[0] = f"{pack.BEGIN} {'0' * 64}"
    with pytest.raises(ValueError, match="damaged"):
        pack.receive("\n".join(lines), tmp_path / "here")
    assert not list((tmp_path / "here").glob("*"))


def test_nothing_and_too_much_to_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    pack.send(tmp_path, "a", stream)
    assert stream.getvalue().startswith(pack.NONE_FOUND)
    run_folder(tmp_path, "tiny/1", "a")
    monkeypatch.setattr(pack, "MAX_BYTES", 10)
    stream = io.StringIO()
    pack.send(tmp_path, "a", stream)
    assert stream.getvalue().startswith(pack.TOO_LARGE)


def test_an_archive_that_leaves_its_folder(tmp_path: Path) -> None:
    import base64
    import hashlib

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("../evil.txt")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    data = packed.getvalue()
    body = base64.b64encode(data).decode()
    log = f"{pack.BEGIN} {hashlib.sha256(data).hexdigest()}\n{body}\n{pack.END}\n"
    with pytest.raises(tarfile.OutsideDestinationError):
        pack.receive(log, tmp_path / "here")
    assert not (tmp_path / "evil.txt").exists()
