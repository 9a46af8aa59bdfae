"""A scenario with all its data in one folder, so that it can travel to another machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from raygrid.errors import InputError
from raygrid.files import SHIPPED, data_path
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import PATH_KEYS, dump_resolved

DATA = "data"
"""Folder of the scenario's data in the bundle."""


def write_bundle(scenario: Scenario, base_dir: Path, folder: Path, file: str) -> Path:
    """Write every value in force, and beside it a copy of each data file that it names.

    What ships with raygrid is there wherever raygrid is, and stays out.

    Parameters
    ----------
    scenario : Scenario
        A validated scenario.
    base_dir : Path
        Folder that its data paths are relative to.
    folder : Path
        Existing folder of the bundle; scenarios with different file names may share it.
    file : str
        Name of the scenario's file in it.

    Returns
    -------
    Path
        The scenario's file.

    Raises
    ------
    InputError
        If a data file cannot be read.
    """
    raw: dict[str, Any] = yaml.safe_load(dump_resolved(scenario, base_dir))
    home = f"{DATA}/{Path(file).stem}"
    for section, key, source in own_data(raw):
        target = f"{home}/{section}-{key}-{source.name}"
        _copy(source, folder / target, f"{scenario.name}:{section}.{key}")
        raw[section][key] = target
    path = folder / file
    path.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def own_data(raw: dict[str, Any]) -> list[tuple[str, str, Path]]:
    """The data files of a resolved scenario that do not ship with raygrid.

    Parameters
    ----------
    raw : dict
        What `dump_resolved` writes, as plain values.

    Returns
    -------
    list of (str, str, Path)
        Section, key and file.
    """
    return [
        (name, key, data_path(section[key]))
        for name, section in raw.items()
        if isinstance(section, dict)
        for key in sorted(PATH_KEYS & section.keys())
        if isinstance(section[key], str) and not section[key].startswith(SHIPPED)
    ]


def _copy(source: Path, target: Path, where: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    except (OSError, shutil.Error) as error:
        raise InputError(
            f"{source} cannot be read ({getattr(error, 'strerror', None) or error})",
            where,
            "correct the path",
        ) from error
