"""What a job needs of raygrid itself: its packages as folders that Ray can carry."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import actors
import raygrid
from raygrid.errors import InputError
from raygrid.files import data_root

PACKAGES = ("raygrid", "actors")
"""The importable folders of a wheel."""
DATA_FOLDERS = ("scenarios", "contracts/artifacts")
"""Folders of data that a wheel holds inside `raygrid` and a checkout beside it."""

_UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyc")


def stage_package(folder: Path, wheel: Path | None = None) -> list[Path]:
    """Lay out raygrid as its wheel does, for `py_modules` of a runtime environment.

    Folders rather than the wheel itself: Ray would install that with plain pip, which fetches
    every dependency again for each job.

    Parameters
    ----------
    folder : Path
        Existing empty folder.
    wheel : Path, optional
        A wheel to unpack; left out, the raygrid that runs.

    Returns
    -------
    list of Path
        One folder for each package.

    Raises
    ------
    InputError
        If the wheel is not raygrid's.
    """
    if wheel is not None:
        _unpack(wheel, folder)
    else:
        for module in (raygrid, actors):
            source = Path(str(module.__file__)).parent
            shutil.copytree(source, folder / module.__name__, ignore=_UNWANTED)
        for name in DATA_FOLDERS:
            target = folder / "raygrid" / name
            if not target.exists():
                root, _, inside = name.partition("/")
                shutil.copytree(data_root(root) / inside, target, ignore=_UNWANTED)
    return [folder / name for name in PACKAGES]


def _unpack(wheel: Path, folder: Path) -> None:
    cure = "give the file that 'make wheel' puts into dist/"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            missing = [name for name in PACKAGES if f"{name}/__init__.py" not in names]
            if missing:
                raise InputError(f"it holds no package '{missing[0]}'", f"--wheel {wheel}", cure)
            archive.extractall(folder, [n for n in names if n.split("/")[0] in PACKAGES])
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"it cannot be read as a wheel ({getattr(error, 'strerror', None) or error})",
            f"--wheel {wheel}",
            cure,
        ) from error
