"""The folder of a study, which later starts of the same study go on with."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

import pyarrow.parquet as pq

from raygrid.errors import InputError
from raygrid.results import provenance
from raygrid.results.files import MANIFEST, REPORT, RunStatus, json_text, write_atomically
from raygrid.results.study import StudyRecord, failures, study_table
from raygrid.results.study_report import render_study
from raygrid.schemas import SCHEMA_VERSION

STUDY = "study.yaml"
TABLE = "study.parquet"
FAILURES = "failures.json"
RECORDS = "records"
RUNS = "runs"
_LOCK = ".lock"


class StudyFolder:
    """``<out>/<study>/``: a record for each run, the runs' folders, one table and one report.

    A context manager that keeps others out of the folder meanwhile.

    Parameters
    ----------
    out : Path
        Folder of all results.
    name : str
        Name of the study.
    facts : mapping
        What the manifest says besides: command, description, cluster.

    Attributes
    ----------
    path : Path
        The folder.

    Raises
    ------
    InputError
        It cannot be written, or another process is at work in it.
    """

    def __init__(self, out: Path, name: str, facts: Mapping[str, Any]) -> None:
        self.path = out / name
        self._lock: IO[str] | None = None
        try:
            (self.path / RECORDS).mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / _LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise InputError(
                "another process runs this study", str(self.path), "wait for its end"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error
        self._manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "study": name,
            "run_id": name,
            "status": RunStatus.RUNNING,
            **facts,
            "created": self._created(),
            "finished": None,
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "git_commit": provenance.git_commit(),
            "job": provenance.job(),
            "files": {},
        }
        self._write(MANIFEST, json_text(self._manifest))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def runs(self) -> Path:
        """Folder of the runs' results."""
        return self.path / RUNS

    def records(self, keys: Iterable[str]) -> dict[str, StudyRecord]:
        """What earlier starts left of these runs; finished ones only where their folder is there.

        Parameters
        ----------
        keys : iterable of str
            Runs of the study as it is now.
        """
        found = {}
        for key in keys:
            record = self._record(key)
            if record is None or not record.finished or record.run is None:
                continue
            if (self.path / record.run / MANIFEST).is_file():
                found[key] = record
        return found

    def describe_cluster(self, cluster: Mapping[str, Any]) -> None:
        """Note what the cluster offers."""
        self._manifest["cluster"] = dict(cluster)

    def add(self, record: StudyRecord) -> None:
        """Keep how a run ended."""
        self._write(f"{RECORDS}/{record.key}.json", json_text(asdict(record)))

    def finish(
        self, status: RunStatus, records: Sequence[StudyRecord], planned: int, study_text: str
    ) -> None:
        """Write table, failures, report and, last, the manifest.

        Parameters
        ----------
        status : RunStatus
            How the study stands.
        records : sequence of StudyRecord
            Of the study's runs, in its order.
        planned : int
            Runs of the whole study.
        study_text : str
            The study file.
        """
        table = study_table(records)
        digests = {
            STUDY: self._write(STUDY, study_text),
            FAILURES: self._write(FAILURES, json_text(failures(records))),
        }
        try:
            digests[TABLE] = write_atomically(
                self.path / TABLE, lambda stream: pq.write_table(table, stream, compression="zstd")
            )
        except OSError as error:
            raise self._unwritable(error) from error
        self._manifest |= {
            "status": status,
            "finished": _now(),
            "planned": planned,
            "done": sum(record.finished for record in records),
            "failed": sum(not record.finished for record in records),
            "files": digests,
        }
        self._write(REPORT, render_study(self._manifest, records, planned))
        self._write(MANIFEST, json_text(self._manifest))

    def _record(self, key: str) -> StudyRecord | None:
        try:
            raw = json.loads((self.path / RECORDS / f"{key}.json").read_text(encoding="utf-8"))
            return StudyRecord(**{field.name: raw[field.name] for field in fields(StudyRecord)})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _created(self) -> str:
        """When the study was begun, by whichever start."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
            return str(manifest["created"])
        except (OSError, ValueError, KeyError, TypeError):
            return _now()

    def _write(self, file: str, text: str) -> str:
        data = text.encode("utf-8")
        try:
            return write_atomically(self.path / file, lambda stream: stream.write(data))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"results cannot be written there ({error.strerror or error})",
            f"--out {self.path.parent}",
            "name a folder that can be written; finished runs are kept",
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
