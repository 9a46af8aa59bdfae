"""Runs as jobs of a Ray cluster that this machine is no part of, through Ray's Jobs API."""

from __future__ import annotations

import logging
import platform
import re
import secrets
import shlex
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import raygrid
from actors import pack
from actors.cluster import PROBE_TIMEOUT_S
from actors.dashboard import check_address, only_address, probe_dashboard, wrong_token
from actors.package import stage_package
from raygrid.errors import EndedShortError, ExitCode, InputError
from raygrid.results.files import going_on, room_for
from raygrid.results.provenance import JOB_VARIABLE

UPLOAD_BYTES = 100 * 1024**2
"""Largest upload that the dashboard of Ray takes (its DASHBOARD_CLIENT_MAX_SIZE) [B]."""
AGENT_TIMEOUT_S = 60.0
"""Longest wait for the agent of a head node that has just come up."""
POLL_S = 0.5
"""Time between two looks at a job that is waited for."""
FETCH_TIMEOUT_S = 300.0
"""Longest wait for the job that sends the results."""
STOP_TIMEOUT_S = 30.0
"""Time that a stopped job has to mark its folder, before it is killed."""
HEAD_FOLDER = "/tmp/raygrid-jobs"
"""Where a job writes on the head node if no shared folder is named."""

_AGENT_MISSING = "No available agent"
_STATUS = re.compile(r"status code (\d+)")


@dataclass(frozen=True)
class Job:
    """A job of raygrid on the cluster.

    Attributes
    ----------
    job_id : str
        Its name there.
    status : str
        Ray's word for how it stands: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED.
    what : str
        Scenario or study.
    out : str
        Folder of its results on the cluster.
    started : float or None
        Time of its start [s since 1970].
    ended : float or None
        Time of its end [s since 1970].
    exit_code : int or None
        Of its command; None where it has none yet.
    message : str
        Ray's word about its end.
    """

    job_id: str
    status: str
    what: str
    out: str
    started: float | None
    ended: float | None
    exit_code: int | None
    message: str

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class JobRequest:
    """What to run as a job.

    Attributes
    ----------
    what : str
        Name of the scenario or study, for the list of jobs.
    arguments : tuple of str
        Arguments of `raygrid` but for `--out`.
    out : str or None
        Absolute folder of results on the cluster; None takes one on the head node.
    wheel : Path or None
        A wheel of raygrid to run; None takes the raygrid that runs here.
    """

    what: str
    arguments: tuple[str, ...]
    out: str | None = None
    wheel: Path | None = None


class JobsClient:
    """The jobs of a cluster, by the address of its dashboard.

    Parameters
    ----------
    address : str
        `http://HEAD:8265`.

    Raises
    ------
    InputError
        Nothing answers there, it is no Ray, or it refuses our token.
    """

    def __init__(self, address: str) -> None:
        self.address = check_address(address)
        self._ray_version = probe_dashboard(self.address)
        with only_address(self.address), self._explained():
            from ray.job_submission import JobSubmissionClient

            # They tell of every upload.
            for name in ("dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):
                logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
            self._client: Any = JobSubmissionClient(self.address)

    def check_versions(self) -> None:
        """Refuse a cluster of another Ray or Python: its results would not be ours.

        Raises
        ------
        InputError
            Says both versions.
        """
        import ray

        with self._explained():
            answer = self._client._do_request(
                "GET", "/api/v0/cluster_metadata", timeout=PROBE_TIMEOUT_S
            )
            told = answer.json().get("data", {}) if answer.status_code == 200 else {}
        theirs = {"Ray": self._ray_version, "Python": told.get("pythonVersion")}
        ours = {"Ray": ray.__version__, "Python": platform.python_version()}
        for package, version in theirs.items():
            parts = 2 if package == "Python" else 3
            if version and version.split(".")[:parts] != ours[package].split(".")[:parts]:
                raise InputError(
                    f"the cluster runs {package} {version}, this machine {ours[package]}",
                    self.address,
                    "submit from an environment like the cluster's, or give the cluster an image "
                    "with this machine's versions (cluster/Containerfile)",
                )

    def submit(self, request: JobRequest, working_folder: Path | None = None) -> Job:
        """Start a job with raygrid in its runtime environment.

        Parameters
        ----------
        request : JobRequest
            What to run.
        working_folder : Path, optional
            Folder whose files the job finds in its working directory.

        Returns
        -------
        Job

        Raises
        ------
        InputError
            The cluster's versions differ, or there is more to upload than Ray takes.
        EndedShortError
            Ray does not take the job.
        """
        self.check_versions()
        job_id = _new_id(request.what)
        out = request.out or f"{HEAD_FOLDER}/{job_id}"
        command = ["python", "-m", "raygrid", *request.arguments, "--out", out]
        metadata = {"raygrid": raygrid.__version__, "what": request.what, "out": out}
        with tempfile.TemporaryDirectory(prefix="raygrid-") as aside:
            environment = self._environment(Path(aside), request.wheel, job_id)
            if working_folder is not None:
                environment["working_dir"] = str(_zip(working_folder, Path(aside) / "work.zip"))
            self._start(job_id, command, environment, metadata)
        return self.job(job_id)

    def jobs(self) -> list[Job]:
        """The jobs of raygrid on the cluster, oldest first."""
        with self._explained():
            found = [_job(details) for details in self._client.list_jobs() if _is_ours(details)]
        return sorted(found, key=lambda job: (job.started or 0.0, job.job_id))

    def job(self, job_id: str) -> Job:
        """One job.

        Raises
        ------
        InputError
            There is no such job of raygrid.
        """
        with self._explained(job_id):
            details = self._client.get_job_info(job_id)
        if not _is_ours(details):
            raise _no_job(job_id)
        return _job(details)

    def log(self, job_id: str) -> str:
        """Everything that a job printed so far."""
        with self._explained(job_id):
            return str(self._client.get_job_logs(job_id))

    def stop(self, job_id: str) -> bool:
        """Ask a job to end, as Ctrl-C would; False where it had ended already."""
        with self._explained(job_id):
            return bool(self._client.stop_job(job_id))

    def wait(self, job_id: str, tell: Callable[[str], None]) -> Job:
        """Wait for a job's end and pass on what it prints, piece by piece."""
        seen = 0
        while True:
            job = self.job(job_id)
            log = self.log(job_id)
            if len(log) > seen:
                tell(log[seen:])
                seen = len(log)
            if job.done:
                return job
            time.sleep(POLL_S)

    def fetch(self, job_id: str, out: Path) -> list[Path]:
        """Bring the folders that a job wrote here; those that are here already stay.

        Parameters
        ----------
        job_id : str
            A job that has ended.
        out : Path
            Folder of all results here.

        Returns
        -------
        list of Path
            Its folders.

        Raises
        ------
        InputError
            The job still runs, wrote nothing, or wrote more than travels this way.
        EndedShortError
            The results did not arrive.
        """
        job = self.job(job_id)
        if not job.done:
            raise InputError(
                f"it is {job.status.lower()}", job_id, "wait for its end, or stop it first"
            )
        # On shared storage the results may be here without anybody carrying them.
        if here := pack.folders_of(Path(job.out), job_id):
            return here
        helper = f"{job_id}-fetch-{secrets.token_hex(2)}"
        with tempfile.TemporaryDirectory(prefix="raygrid-") as aside:
            environment = self._environment(Path(aside), None, helper)
            command = ["python", "-m", "actors.pack", job.out, job_id]
            self._start(helper, command, environment, {"raygrid-helper": raygrid.__version__})
        log = self._helper_log(helper)
        for line in log.splitlines():
            if line.startswith(pack.NONE_FOUND):
                raise InputError(
                    f"it left no results under {job.out} on the head node",
                    job_id,
                    f"see 'raygrid jobs logs {job_id} --address {self.address}'",
                )
            if line.startswith(pack.TOO_LARGE):
                size = int(line.split()[1]) / 1024**2
                raise InputError(
                    f"its results are {size:.0f} MiB packed, more than the "
                    f"{pack.MAX_BYTES // 1024**2} MiB that travel through Ray",
                    job_id,
                    f"copy {job.out} from the head node, or submit with --out on storage that "
                    "this machine shares with the cluster",
                )
        try:
            with going_on("fetch it again"), room_for(out / job_id, len(log)):
                return pack.receive(log, out)
        except ValueError as error:
            raise EndedShortError(
                f"{job_id}: {error}; try again, or copy {job.out} from the head node"
            ) from error
        except OSError as error:
            raise InputError(
                f"results cannot be written there ({error.strerror or error})",
                f"--out {out}",
                "name a folder that can be written",
            ) from error

    def _helper_log(self, helper: str) -> str:
        deadline = time.monotonic() + FETCH_TIMEOUT_S
        with self._explained(helper):
            while str(self._client.get_job_status(helper)) not in ("SUCCEEDED", "FAILED"):
                if time.monotonic() > deadline:
                    raise EndedShortError(
                        f"{helper}: no results within {FETCH_TIMEOUT_S:.0f} s; try again when the "
                        "cluster has less to do"
                    )
                time.sleep(POLL_S)
            log = str(self._client.get_job_logs(helper))
            self._client.delete_job(helper)
        return log

    def _environment(self, aside: Path, wheel: Path | None, job_id: str) -> dict[str, Any]:
        folder = aside / "packages"
        folder.mkdir()
        return {
            "py_modules": [str(path) for path in stage_package(folder, wheel)],
            "env_vars": {
                JOB_VARIABLE: job_id,
                "RAY_JOB_STOP_WAIT_TIME_S": f"{STOP_TIMEOUT_S:.0f}",
            },
        }

    def _start(
        self,
        job_id: str,
        command: Sequence[str],
        environment: dict[str, Any],
        metadata: dict[str, str],
    ) -> None:
        deadline = time.monotonic() + AGENT_TIMEOUT_S
        while True:
            try:
                with self._explained(job_id):
                    self._client.submit_job(
                        entrypoint=shlex.join(command),
                        submission_id=job_id,
                        runtime_env=environment,
                        metadata=metadata,
                    )
                return
            except EndedShortError as error:
                # The agent that starts jobs comes up some time after its node.
                if _AGENT_MISSING not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_S)

    @contextmanager
    def _explained(self, job_id: str = "") -> Iterator[None]:
        """Turn the errors of Ray's client into ours."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise wrong_token(self.address) from error
        except OSError as error:  # its HTTP library's errors are such
            raise EndedShortError(
                f"{self.address}: the cluster stopped answering ({_first_line(error)}); a job that "
                "it took goes on as long as its head node lives"
            ) from error
        except (RuntimeError, ValueError) as error:
            status = _STATUS.search(str(error))
            if status is not None and status[1] == "404":
                raise _no_job(job_id) from error
            if status is not None and status[1] == "413":
                raise _too_large("the upload", None) from error
            raise EndedShortError(f"{self.address}: {_first_line(error)}") from error


def check_out(out: Path) -> str:
    """The results folder of a job, which has no home of its own on the cluster.

    Raises
    ------
    InputError
        It is not absolute.
    """
    if not out.is_absolute():
        raise InputError(
            "a job has no folder of its own on the cluster",
            f"--out {out}",
            "give an absolute path, best on storage that all nodes share, or leave --out away and "
            "use 'raygrid jobs fetch'",
        )
    return str(out)


def exit_code(job: Job) -> ExitCode:
    """The exit code for a job that has ended: its command's, if that is one of ours."""
    if job.status == "SUCCEEDED":
        return ExitCode.DONE
    if job.exit_code in list(ExitCode) and job.exit_code:
        return ExitCode(job.exit_code)
    return ExitCode.ENDED_SHORT


def _zip(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                # A fixed time stamp: the same files are uploaded once.
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with path.open("rb") as source, archive.open(entry, "w") as packed:
                    while block := source.read(1 << 20):
                        packed.write(block)
    if target.stat().st_size > UPLOAD_BYTES:
        raise _too_large("the scenario's data", target.stat().st_size)
    return target


def _too_large(what: str, size: int | None) -> InputError:
    has = "more" if size is None else f"{size / 1024**2:.0f} MiB packed, more"
    return InputError(
        f"{has} than the {UPLOAD_BYTES // 1024**2} MiB that a cluster takes with a job",
        what,
        "put the scenario on storage that the cluster's nodes share and run 'raygrid simulate "
        "--address' on one of them",
    )


def _new_id(what: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", what)[:40].strip("-") or "job"
    return f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def _is_ours(details: Any) -> bool:
    return bool(details.submission_id) and "raygrid" in (details.metadata or {})


def _job(details: Any) -> Job:
    metadata: Mapping[str, str] = details.metadata
    return Job(
        job_id=str(details.submission_id),
        status=str(getattr(details.status, "value", details.status)),
        what=metadata.get("what", ""),
        out=metadata.get("out", ""),
        started=details.start_time / 1e3 if details.start_time else None,
        ended=details.end_time / 1e3 if details.end_time else None,
        exit_code=details.driver_exit_code,
        message=" ".join((details.message or "").split()),
    )


def _no_job(job_id: str) -> InputError:
    return InputError("there is no such job of raygrid", job_id, "see 'raygrid jobs list'")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
