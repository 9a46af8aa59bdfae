"""pandapower networks from files, read without running what is in them, and by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raygrid.errors import InputError
from raygrid.grid.pandapower_net import pandapower_quietly

BUILTIN_NETS = (
    "case4gs", "case5", "case6ww", "case9", "case14", "case24_ieee_rts", "case30", "case_ieee30",
    "case33bw", "case39", "case57", "case89pegase", "case118", "case145", "case_illinois200",
    "case300", "case1354pegase", "case1888rte", "case2848rte", "case2869pegase", "case3120sp",
    "case6470rte", "case6495rte", "case6515rte", "case9241pegase", "GBnetwork",
    "GBreducednetwork", "iceland", "create_cigre_network_hv", "create_cigre_network_mv",
    "create_cigre_network_lv", "mv_oberrhein", "create_kerber_landnetz_freileitung_1",
    "create_kerber_landnetz_kabel_1", "create_kerber_dorfnetz",
    "create_kerber_vorstadtnetz_kabel_1",
)  # fmt: skip
"""Networks of `pandapower.networks` that `builtin_net` gives; all come with pandapower."""

DATA_CLASSES = frozenset(
    {
        ("pandapower.auxiliary", "pandapowerNet"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.series", "Series"),
        ("numpy", "array"),
        ("builtins", "tuple"),
        ("builtins", "set"),
        ("builtins", "frozenset"),
        ("builtins", "complex"),
    }
)
"""The only (module, class) pairs that a network file may ask pandapower to build."""

NUMPY_SCALARS = frozenset(
    {"bool", "bool_"}
    | {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
    | {f"float{bits}" for bits in (16, 32, 64)}
    | {f"complex{bits}" for bits in (64, 128)}
)

MAX_NESTING = 64

TABLE_COLUMNS = {
    "bus": ("vn_kv", "in_service"),
    "line": ("from_bus", "to_bus", "max_i_ka", "in_service"),
    "trafo": ("hv_bus", "lv_bus", "sn_mva", "in_service"),
    "trafo3w": ("hv_bus", "mv_bus", "lv_bus", "sn_hv_mva", "sn_mv_mva", "sn_lv_mva", "in_service"),
    "impedance": ("from_bus", "to_bus", "in_service"),
    "switch": ("bus", "element", "et", "closed"),
    "ext_grid": ("bus", "vm_pu", "in_service"),
    "gen": ("bus", "p_mw", "vm_pu", "slack", "in_service"),
}
"""What the conversion reads; a damaged file may lack it."""


def builtin_net(name: str) -> Any:
    """A network that comes with pandapower.

    Parameters
    ----------
    name : str
        One of `BUILTIN_NETS`.

    Returns
    -------
    pandapowerNet
        The network.

    Raises
    ------
    InputError
        A name that is not in the list.
    """
    if name not in BUILTIN_NETS:
        raise InputError(
            f"there is no network {name!r}", "pandapower networks", f"use one of {BUILTIN_NETS}"
        )
    import pandapower.networks

    with pandapower_quietly():
        net = getattr(pandapower.networks, name)()
    if not net.name:
        net.name = name
    return net


def load_pandapower_file(path: str | Path) -> Any:
    """Read a network from pandapower's JSON, or from a MATPOWER case.

    A pandapower JSON file can name any Python module to import and any function to look up while
    it is read, and a table inside it can name another file. So the file is searched first, the
    tables nested in it too, and refused if it asks for anything but tables, arrays, numbers and
    the network itself: controllers, characteristics, functions and objects of other modules are
    not needed here. Pickles and Excel files, which can carry more, are not read at all.

    Parameters
    ----------
    path : str or Path
        A file ending in .json, .mat, or .m (the last with the package `matpowercaseframes`).

    Returns
    -------
    pandapowerNet
        The network.

    Raises
    ------
    InputError
        No such file, another ending, a file that is not such a network, or one that asks for
        objects beyond data.
    """
    file = Path(path)
    where = str(path)
    if not file.is_file():
        raise InputError("there is no such file", where, "correct the path")
    ending = file.suffix.lower()
    if ending == ".json":
        return _from_json(file, where)
    if ending in (".m", ".mat"):
        return _from_matpower(file, where)
    raise InputError(
        f"{ending or 'no'} files are not read as networks",
        where,
        "save the network with pandapower.to_json, or as a MATPOWER .mat case",
    )


def _from_json(file: Path, where: str) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where, "give a UTF-8 file") from error
    try:
        for module, name in _requested_objects(text):
            _check_requested(module, name, where)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"is not a JSON network that can be checked ({error})",
            where,
            "save the network with pandapower.to_json",
        ) from error

    import pandapower as pp
    from pandapower.auxiliary import pandapowerNet

    try:
        with pandapower_quietly():
            net = pp.from_json_string(text)
            is_net = isinstance(net, pandapowerNet)
            if is_net:
                pp.convert_format(net)
    except Exception as error:  # whatever a foreign reader raises on a damaged file
        raise InputError(
            f"pandapower cannot read it ({error})", where, "save it with pandapower.to_json"
        ) from error
    if not is_net or not len(net.bus):
        raise InputError(
            "holds no pandapower network with buses",
            where,
            "save the network with pandapower.to_json",
        )
    _check_tables(net, where)
    return net


def _check_tables(net: Any, where: str) -> None:
    for table, columns in TABLE_COLUMNS.items():
        held = getattr(net.get(table), "columns", ())
        missing = [column for column in columns if column not in held]
        if missing:
            raise InputError(
                f"has no table {table!r} with the columns {', '.join(missing)}",
                where,
                "save the network with pandapower.to_json",
            )


def _from_matpower(file: Path, where: str) -> Any:
    from pandapower.converter.matpower.from_mpc import from_mpc

    try:
        with pandapower_quietly():
            return from_mpc(str(file))
    except NotImplementedError as error:
        raise InputError(
            "MATPOWER .m files need the package matpowercaseframes",
            where,
            "install it, or save the case as .mat",
        ) from error
    except Exception as error:  # whatever a foreign reader raises on a damaged file
        raise InputError(
            f"pandapower cannot read it as a MATPOWER case ({error})",
            where,
            "save a case of version 2 in a variable named mpc",
        ) from error


def _check_requested(module: object, name: object, where: str) -> None:
    if (module, name) in DATA_CLASSES or (module == "numpy" and name in NUMPY_SCALARS):
        return
    raise InputError(
        f"asks for the object {module}.{name}, and only tables and numbers are read",
        where,
        "remove controllers and other objects from the network, then save it again",
    )


def _requested_objects(text: str, depth: int = 0) -> Iterator[tuple[object, object]]:
    """All (module, class) pairs in a JSON text and in the JSON texts nested in its strings.

    Raises ValueError where a nested table is not JSON: pandas would read its text as a path.
    """
    if depth > MAX_NESTING:
        raise ValueError("nested too deep")
    objects: list[list[tuple[str, Any]]] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        objects.append(pairs)
        return dict(pairs)

    document = json.loads(text, object_pairs_hook=collect)
    strings = list(_strings(document))
    for pairs in objects:
        keys = [key for key, _ in pairs]
        if len(keys) != len(set(keys)):
            raise ValueError("the same key occurs twice in one object")
        found = dict(pairs)
        if "_module" in found or "_class" in found:
            yield found.get("_module"), found.get("_class")
            if found.get("_class") in ("DataFrame", "Series"):
                table = found.get("_object")
                if isinstance(table, str) and not table.lstrip().startswith(("{", "[")):
                    raise ValueError("a table is not given as JSON")
    for string in strings:
        if string.lstrip().startswith(("{", "[", '"')):
            try:
                json.loads(string)
            except ValueError:
                if "_module" in string or "\\u" in string:
                    raise
                continue
            yield from _requested_objects(string, depth + 1)


def _strings(value: Any) -> Iterator[str]:
    """All strings in a JSON document, keys included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
