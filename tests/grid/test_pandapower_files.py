"""Files: what is data is read, what asks for more is refused before pandapower sees it."""

import json
import sys

import numpy as np
import pandapower as pp
import pytest

from raygrid.errors import InputError
from raygrid.grid.pandapower_files import BUILTIN_NETS, builtin_net, load_pandapower_file
from raygrid.grid.pandapower_net import network_from_pandapower, pandapower_quietly


@pytest.fixture
def saved(tmp_path):
    """A function that saves a net, changed on the way by a function of its JSON document."""

    def save(net, change=None):
        path = tmp_path / "net.json"
        pp.to_json(net, str(path))
        if change:
            document = json.loads(path.read_text())
            change(document)
            path.write_text(json.dumps(document))
        return path

    return save


def assert_same(first, second):
    for name in ("bus_id", "line_id", "from_bus", "to_bus", "x_pu", "limit_kw"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("name", ["case14", "case33bw", "create_cigre_network_mv"])
def test_json_round_trip(saved, name):
    net = builtin_net(name)
    loaded = load_pandapower_file(saved(net))
    assert_same(network_from_pandapower(loaded), network_from_pandapower(net))


def test_matpower_round_trip(tmp_path):
    from pandapower.converter.matpower.to_mpc import to_mpc

    net = builtin_net("case14")
    path = tmp_path / "case14.mat"
    with pandapower_quietly():
        to_mpc(net, str(path), init="flat")
    again = network_from_pandapower(load_pandapower_file(path))
    assert (again.n_buses, again.n_lines) == (14, 20)


@pytest.mark.parametrize("name", BUILTIN_NETS)
def test_every_builtin_name_is_in_pandapower(name):
    assert callable(getattr(pp.networks, name))


def test_unknown_builtin_name():
    with pytest.raises(InputError, match="there is no network 'case15'"):
        builtin_net("case15")


@pytest.mark.parametrize(
    "request_",
    [
        {"_module": "os", "_class": "system", "_object": "true"},
        {"_module": "antigravity", "_class": "function", "_object": "fly"},
        {"_module": "pandapower.control", "_class": "ConstControl", "_object": "{}"},
        {"_module": "builtins", "_class": "eval", "_object": "1"},
        {"_class": "function", "_object": "system"},
        {"_module": "numpy", "_class": "load", "_object": "x"},
    ],
)
@pytest.mark.parametrize("nesting", ["plain", "in a string", "in a table", "escaped"])
def test_objects_beyond_data_are_refused(saved, request_, nesting):
    def change(document):
        extra = request_
        if nesting == "in a string":
            extra = json.dumps({"deep": json.dumps(request_)})
        elif nesting == "in a table":
            table = json.dumps({"columns": ["object"], "index": [0], "data": [[request_]]})
            extra = {"_module": "pandas.core.frame", "_class": "DataFrame", "_object": table}
        elif nesting == "escaped":
            extra = json.dumps(request_).replace("_module", "\\u005fmodule")
            extra = extra.replace("_class", "\\u005fclass")
        document["_object"]["extra"] = extra

    path = saved(pp.create_empty_network(), change)
    with pytest.raises(InputError, match=r"asks for the object .* only tables and numbers"):
        load_pandapower_file(path)
    assert "antigravity" not in sys.modules


def test_a_table_that_is_a_path_is_refused(saved):
    def change(document):
        document["_object"]["bus"]["_object"] = "/etc/other.json"

    with pytest.raises(InputError, match="a table is not given as JSON"):
        load_pandapower_file(saved(builtin_net("case4gs"), change))


def test_repeated_keys_are_refused(tmp_path):
    path = tmp_path / "net.json"
    path.write_text('{"_module": "numpy", "_module": "os", "_class": "array"}')
    with pytest.raises(InputError, match="same key occurs twice"):
        load_pandapower_file(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("net.json", "not json", "is not a JSON network"),
        ("net.json", "{}", "holds no pandapower network"),
        ("net.json", "[" * 100_000, "is not a JSON network"),
        ("net.p", "", r"\.p files are not read .*pandapower\.to_json"),
        ("net", "", "no files are not read"),
        ("case.mat", "rubbish", "cannot read it as a MATPOWER case"),
    ],
)
def test_other_files_are_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_pandapower_file(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        load_pandapower_file(tmp_path / "none.json")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "net.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="give a UTF-8 file"):
        load_pandapower_file(path)


@pytest.mark.parametrize("table", ["bus", "line", "ext_grid"])
@pytest.mark.parametrize("damage", ["text", "column"])
def test_damaged_tables_are_refused_in_one_line(saved, table, damage):
    def change(document):
        tables = document["_object"]
        if damage == "text":
            tables[table] = "nothing"
        else:
            content = json.loads(tables[table]["_object"])
            content["columns"] = [f"{name}_unknown" for name in content["columns"]]
            tables[table]["_object"] = json.dumps(content)

    path = saved(builtin_net("case4gs"), change)
    with pytest.raises(InputError, match=rf"pandapower cannot read it|has no table '?{table}"):
        load_pandapower_file(path)
