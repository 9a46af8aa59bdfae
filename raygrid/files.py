"""Where data files are found: in the installed package, else in the checkout beside it."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from raygrid.errors import InputError

SHIPPED = "raygrid:"
"""Prefix of a data path that is relative to the folder of the shipped scenarios."""


@cache
def data_root(folder: str) -> Path:
    """Find a folder of data files that ships with raygrid.

    Inside a wheel (also on a Ray worker that got the wheel) it is package data,
    ``raygrid/<folder>``; in a checkout it stands beside the package.

    Parameters
    ----------
    folder : str
        'scenarios' or 'contracts'.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If it is in neither place.
    """
    package = Path(str(resources.files("raygrid")))
    for candidate in (package / folder, package.parent / folder):
        if candidate.is_dir():
            return candidate
    raise InputError(f"the data folder '{folder}' is missing", str(package), "install raygrid anew")


def list_scenarios() -> list[str]:
    """Names of the shipped scenarios, sorted."""
    root = data_root("scenarios")
    names = {p.parent.name for p in root.glob("*/scenario.yaml")}
    names |= {p.stem for p in root.glob("*.yaml")}
    return sorted(names)


def scenario_path(name: str) -> Path:
    """Path of a scenario file, by the name of a shipped scenario or by path.

    Parameters
    ----------
    name : str
        'tiny', or the path of a YAML file or of a folder with a `scenario.yaml`.

    Returns
    -------
    Path
        An existing file.

    Raises
    ------
    InputError
        If there is no such scenario; names the closest one.
    """
    shipped = list_scenarios()
    if name in shipped:
        root = data_root("scenarios")
        nested = root / name / "scenario.yaml"
        return nested if nested.is_file() else root / f"{name}.yaml"
    try:
        path = Path(name)
        if path.is_dir() and (path / "scenario.yaml").is_file():
            return path / "scenario.yaml"
        if path.is_file():
            return path
    except (OSError, ValueError):
        pass
    import difflib

    close = difflib.get_close_matches(name, shipped, n=1)
    cure = (
        f"did you mean '{close[0]}'?"
        if close
        else f"shipped are {', '.join(shipped)}; or give the path of a scenario file"
    )
    raise InputError("no such scenario or file", repr(name), cure)


def data_path(reference: str, base_dir: Path | None = None) -> Path:
    """Path of a data file that a scenario names.

    Parameters
    ----------
    reference : str
        'raygrid:tiny/network.csv' for a shipped file, an absolute path, or a path relative to
        `base_dir`.
    base_dir : Path, optional
        Folder of the scenario file; the current folder if left out.

    Returns
    -------
    Path
        The path, which need not exist.
    """
    if reference.startswith(SHIPPED):
        return data_root("scenarios") / reference.removeprefix(SHIPPED)
    return (base_dir or Path()) / reference


def portable_reference(path: Path) -> str:
    """The inverse of `data_path`: 'raygrid:...' for shipped files, else the absolute path."""
    resolved = path.resolve()
    root = data_root("scenarios").resolve()
    if resolved.is_relative_to(root):
        return SHIPPED + resolved.relative_to(root).as_posix()
    return str(resolved)
