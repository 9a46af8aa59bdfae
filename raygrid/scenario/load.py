"""Reading scenario files: strict YAML, overrides, one-line errors, and the resolved form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from raygrid.errors import InputError
from raygrid.files import data_path, portable_reference, scenario_path
from raygrid.scenario.config import Scenario

MAX_FILE_BYTES = 4_000_000
MAX_DEPTH = 100

M = TypeVar("M", bound=BaseModel)

SCHEMA_COMMANDS = {"Scenario": "raygrid scenario schema", "Study": "raygrid study --schema"}
"""What prints the schema of each authored file."""


class _StrictSafeLoader(yaml.SafeLoader):  # type: ignore[misc]
    """SafeLoader that refuses duplicate keys and aliases and reads 1e-4 as a number."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not supported", event.start_mark
            )
        if self.depth == MAX_DEPTH:
            # Not left to the interpreter: a library may have raised its limit.
            raise RecursionError
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not a text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


# YAML 1.1 takes 1e-4 for a text because it lacks the dot; everybody else takes it for a number.
_StrictSafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML without surprises.

    Parameters
    ----------
    text : str
        YAML text.
    where : str
        Name of the source, for error lines.

    Returns
    -------
    object
        Plain Python values.

    Raises
    ------
    InputError
        If the text is not YAML, repeats a key or uses aliases.
    """
    try:
        return yaml.load(text, Loader=_StrictSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark is not None else where
        what = " ".join(str(error.problem or error.context or "not YAML").split())
        raise InputError(what, place, "mend that line") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, KeyError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"not readable as YAML ({what})", where, "mend the file") from None
    except RecursionError:
        raise InputError("nested too deeply", where, "write a flat scenario file") from None


def read_raw(path: Path) -> dict[str, Any]:
    """Read a scenario file into plain values, before validation.

    Raises
    ------
    InputError
        If the file cannot be read or is not a mapping.
    """
    where = str(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError("larger than 4 MB", where, "put long data into CSV or Parquet tables")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text", where, "save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be read ({reason})", where, "check path and rights") from None
    return _as_mapping(parse_yaml(text, where), where)


def _as_mapping(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        kind = "empty" if raw is None else f"a {type(raw).__name__}"
        raise InputError(
            f"the file is {kind}, not a mapping", where, "start with `name:` and `network:`"
        )
    return raw


def apply_overrides(raw: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Apply `--set key=value` settings to a scenario's plain values.

    Parameters
    ----------
    raw : dict
        Plain values of a scenario; left as it is.
    settings : iterable of str
        'market.rho=0.2', 'network.limits.lines=[{line: 1, limit_kw: 5}]'; values are YAML.

    Returns
    -------
    dict
        A changed copy.

    Raises
    ------
    InputError
        If a setting is not of the form key=value or goes through a value that is no section.
    """
    result: dict[str, Any] = _copy(raw)
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = key.strip().split(".")
        where = f"--set {setting}"
        if not equals or not all(parts):
            raise InputError("not of the form key=value", where, "write e.g. market.rho=0.2")
        target = result
        for part in parts[:-1]:
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
            if not isinstance(target, dict):
                raise InputError(f"'{part}' is not a section", where, "check the key")
        target[parts[-1]] = parse_yaml(text, where)
    return result


def apply_flags(
    raw: dict[str, Any],
    *,
    agents: int | None = None,
    periods: int | None = None,
    days: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Apply the flags `--agents`, `--periods`, `--days` and `--seed`; None leaves a value."""
    flags = {
        "population.agents": agents,
        "horizon.periods": periods,
        "horizon.days": days,
        "seed": seed,
    }
    return apply_overrides(raw, [f"{k}={v}" for k, v in flags.items() if v is not None])


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value


# --- validation with readable errors ---------------------------------------------------------


def validate(raw: dict[str, Any], where: str) -> Scenario:
    """Turn plain values into a scenario.

    Parameters
    ----------
    raw : dict
        Plain values, as `read_raw` gives them.
    where : str
        Name of the source, for error lines.

    Returns
    -------
    Scenario
        The validated scenario.

    Raises
    ------
    InputError
        Names the first wrong key in one line, and the closest right one.
    """
    return validate_as(Scenario, raw, where)


def validate_as(model: type[M], raw: dict[str, Any], where: str) -> M:
    """Turn plain values into a model of an authored file; otherwise as `validate`.

    Parameters
    ----------
    model : type
        The file's model.
    raw : dict
        Plain values, as `read_raw` gives them.
    where : str
        Name of the source, for error lines.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    except RecursionError:
        raise InputError("nested too deeply", where, "write a flat file") from None
    raise _input_error(model, raw, errors, where)


def _input_error(model: type[BaseModel], raw: Any, errors: Sequence[Any], where: str) -> InputError:
    # An unknown key often causes the other errors (its right name is then missing).
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    loc: tuple[Any, ...] = first["loc"]
    path = _readable(raw, loc)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    place = f"{where}:{path}" if path else where
    kind = first["type"]
    context = first.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = sorted(_fields_at(model, loc[:-1]))
        close = _closest(str(loc[-1]), allowed)
        elsewhere = [name for name in _sections_of(model, str(loc[-1])) if name != loc[0]]
        if close:
            cure = f"did you mean '{close}'?"
        elif elsewhere:
            cure = f"it belongs in section '{elsewhere[0]}'"
        else:
            cure = f"known here: {', '.join(allowed)}"
        return InputError(f"unknown key{more}", place, cure)
    if kind == "missing":
        return InputError(
            f"missing{more}", place, f"add it; see `{SCHEMA_COMMANDS[model.__name__]}`"
        )
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = str(context.get("expected_tags", "")) or "source"
        what = f"unknown source {context['tag']!r}" if "tag" in context else "no `source`"
        return InputError(f"{what}{more}", place, f"one of {tags}")
    message = str(first["msg"])
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        what, _, cure = message.partition("; ")
        return InputError(f"{what}{more}", place, cure or "change it")
    shown = _shorten(first.get("input"))
    # pydantic begins with the kind of value: 'Input should', 'String should'.
    _, should, rest = " ".join(message.split()).partition(" should ")
    cure = f"it should {rest}" if should else message
    return InputError(f"{shown} is refused{more}", place, cure)


def _shorten(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # e.g. an int too long to print
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _readable(raw: Any, loc: tuple[Any, ...]) -> str:
    """The location as the file has it: without the tags of unions that pydantic adds."""
    path = ""
    current = raw
    for position, part in enumerate(loc):
        if isinstance(current, dict) and (part in current or position == len(loc) - 1):
            path += f".{part}" if path else str(part)
            current = current.get(part)
        elif isinstance(current, list) and isinstance(part, int) and part < len(current):
            path += f"[{part}]"
            current = current[part]
    return " ".join(path.split())


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation (unions, tuples, Annotated)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in get_args(annotation) for m in _models(a)]


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> set[str]:
    """Keys that are known at a location as pydantic reports it (with union tags)."""
    models: list[type[BaseModel]] = [model]
    for part in loc:
        fields: list[FieldInfo] = [
            m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields
        ]
        if fields:
            models = [m for f in fields for m in _models(f.annotation)]
        else:
            tagged = [
                m
                for m in models
                if "source" in m.model_fields
                and part in get_args(m.model_fields["source"].annotation)
            ]
            models = tagged or models
    return {name for m in models for name in m.model_fields}


def _closest(key: str, allowed: Sequence[str]) -> str | None:
    """The known key meant by a wrong one: by spelling, or by its stem with another unit."""
    close = difflib.get_close_matches(key, allowed, n=1, cutoff=0.6)
    if close:
        return close[0]
    stem = key.partition("_")[0]
    same = [a for a in allowed if a.partition("_")[0] == stem]
    if same:
        return same[0]
    return None


def _sections_of(model: type[BaseModel], key: str) -> list[str]:
    """Sections of the file that know a key, at their top."""
    return [
        name
        for name, field in model.model_fields.items()
        if any(key in m.model_fields for m in _models(field.annotation))
    ]


# --- whole files -----------------------------------------------------------------------------


def load_scenario(
    name_or_path: str | Path,
    *,
    settings: Iterable[str] = (),
    agents: int | None = None,
    periods: int | None = None,
    days: int | None = None,
    seed: int | None = None,
) -> tuple[Scenario, Path]:
    """Read and validate a scenario, by name or path, with overrides.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped scenario, or a path.
    settings : iterable of str
        `--set` settings, applied after the flags.
    agents, periods, days, seed : int, optional
        Values of the flags of the same names.

    Returns
    -------
    scenario : Scenario
        The validated scenario.
    base_dir : Path
        Folder that its data paths are relative to.

    Raises
    ------
    InputError
        If anything about it is wrong.
    """
    path = scenario_path(str(name_or_path))
    raw = read_raw(path)
    population = raw.get("population")
    if agents is not None and isinstance(population, dict) and population.get("source") == "town":
        raise InputError(
            f"{agents} agents are asked for, but a town's come with its grids",
            f"{path}:population",
            "set the number of grids instead, such as --set network.grids=50",
        )
    raw = apply_flags(raw, agents=agents, periods=periods, days=days, seed=seed)
    return validate(apply_overrides(raw, settings), str(path)), path.parent


PATH_KEYS = frozenset({"lines", "buses", "path", "prosumers", "profiles", "stores", "table"}) | {
    "units",
    "load_shapes",
    "pv_shapes",
    "weather",
    "forecaster",
    "step_forecaster",
    "policy",
}


def dump_resolved(scenario: Scenario, base_dir: Path) -> str:
    """Every value in force as YAML text; loading it again gives the same case.

    Data paths become 'raygrid:...' for shipped files and absolute paths for others, so that the
    text can stand in any folder.

    Parameters
    ----------
    scenario : Scenario
        A validated scenario.
    base_dir : Path
        Folder that its data paths are relative to.

    Returns
    -------
    str
        YAML text.
    """
    raw = scenario.model_dump(mode="json")
    for section in raw.values():
        if isinstance(section, dict):
            for key in PATH_KEYS & set(section):
                if isinstance(section[key], str):
                    section[key] = portable_reference(data_path(section[key], base_dir))
    raw["horizon"]["period_hours"] = scenario.horizon.dt
    return str(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))


def json_schema() -> dict[str, Any]:
    """JSON schema of a scenario file, generated from the models."""
    schema = Scenario.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
