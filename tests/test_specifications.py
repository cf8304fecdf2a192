"""Grids of the command line and specification files, whatever is in them."""

import contextlib
import json
import tempfile
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import srfx
from srfx.cli.grids import grid_value, list_value
from srfx.cli.specification import read_specification
from srfx.models import ACTIVATION_NAMES
from srfx.scans.plan import make_plan

quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)

numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(1e-300, 1e300)
counts = st.integers(1, 50)


def grid(text):
    return grid_value(None, None, text)


# --- grids ---


@quick
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20), st.sampled_from(["", " "]))
def test_lists_come_back(values, space):
    text = f"{space},{space}".join(map(repr, values))
    got = grid(text)
    assert np.shape(got) == (() if len(values) == 1 else (len(values),))
    assert np.ravel(got).tobytes() == np.array(values).tobytes()
    assert list_value(None, None, text) == tuple(values)


@quick
@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), counts)
@example(-0.0, 0.0, 1)
@example(5e-324, 1e300, 50)
def test_grids(start, stop, count):
    got = grid(f"{start!r}:{stop!r}:{count}")
    assert got.tobytes() == np.linspace(start, stop, count).tobytes()
    assert (got[0], got[-1]) == (start, stop if count > 1 else start)


@quick
@given(positive, positive, counts, st.sampled_from(["log", "LOG", " log "]))
def test_logarithmic_grids(start, stop, count, log):
    got = grid(f"{log}:{start!r}:{stop!r}:{count}")
    assert (got[0], got[-1]) == (start, stop if count > 1 else start)
    steps = np.diff(np.log(got))
    np.testing.assert_allclose(steps, steps.mean() if steps.size else 0, atol=1e-12, rtol=1e-9)


pieces = st.sampled_from(
    ["log", ":", ",", "1", "-", "e", "e9", ".", "nan", "inf", "_", " ", "0", "٣"]
)
any_grid = st.one_of(
    st.text(max_size=20),
    st.lists(pieces, max_size=10).map("".join),
    st.tuples(numbers, numbers, st.integers(-2, 1000)).map(lambda t: ":".join(map(repr, t))),
    st.tuples(numbers, numbers, counts).map(lambda t: "log:" + ":".join(map(repr, t))),
)


@settings(quick, max_examples=400)
@given(any_grid)
@example("-1e308:1e308:3")
@example("0:1:100000000000")
@example("0:1:" + "9" * 5000)
@example("1" * 5000 + ":1:2")
@example("log:5e-324:1.7e308:4")
def test_anything_is_a_grid_or_refused(text):
    try:
        got = grid(text)
    except click.BadParameter:
        return
    assert isinstance(got, float) or (got.dtype == float and got.ndim == 1 and got.size > 0)
    if ":" in text:
        assert np.isfinite(got).all()


@quick
@given(any_grid)
def test_anything_is_a_list_or_refused(text):
    try:
        got = list_value(None, None, text)
    except click.BadParameter:
        return
    assert got
    assert all(isinstance(x, float) for x in got)


# --- specification files ---


def read(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_specification(path)


def toml(value):
    if isinstance(value, dict):
        items = ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items())
        return "{" + items + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def document(tables):
    return "".join(
        f"[{name}]\n" + "".join(f"{json.dumps(k)} = {toml(v)}\n" for k, v in table.items())
        for name, table in tables.items()
    )


values = st.lists(st.floats(0.01, 100), min_size=1, max_size=6, unique=True)
axis = st.one_of(
    st.floats(0.01, 100).map(lambda x: (x, x)),
    st.integers(1, 100).map(lambda x: (x, x)),
    values.map(lambda x: (x, x)),
    st.tuples(st.floats(0.01, 1), st.floats(2, 100), counts).map(
        lambda t: (":".join(map(repr, t)), np.linspace(*t))
    ),
    st.tuples(st.floats(0.01, 1), st.floats(2, 100), counts, st.booleans()).map(
        lambda t: (
            {"start": t[0], "stop": t[1], "count": t[2]} | ({"scale": "log"} if t[3] else {}),
            (np.geomspace if t[3] else np.linspace)(*t[:3]),
        )
    ),
)
models = st.one_of(
    st.fixed_dictionaries(
        {
            "activation": st.sampled_from(["tanh", "relu"]),
            "target": st.sampled_from(["sin", "abs"]),
        },
        optional={
            "eta": st.floats(0, 10),
            "alpha0": st.just(np.inf) | st.floats(0.1, 10),
            "noise": st.integers(0, 3),
            "readout": st.lists(st.floats(-2, 2), min_size=1, max_size=3),
        },
    ).map(lambda fields: ("OneStep", srfx.OneStep, fields)),
    st.fixed_dictionaries(
        {"activation": st.sampled_from(ACTIVATION_NAMES)},
        optional={"r": st.floats(0, 3), "gamma": st.floats(-1, 1), "beta": st.floats(0.1, 3)},
    ).map(lambda fields: ("SpikedRF", srfx.SpikedRF, fields)),
)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@quick
@given(
    models, axis, axis, st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
)
def test_specifications_come_back(model, alpha, lam, name):
    kind, build, fields = model
    path = "./" + name
    tables = {
        "model": {"type": kind, **fields},
        "axes": {"alpha": alpha[0], "lam": lam[0]},
        "output": {"path": path, "variables": ["test_error"], "block_points": 7},
    }
    got = read(document(tables))
    assert got["model"] == build(**fields)
    assert list(got["axes"]) == ["alpha", "lam"]
    for name_, wanted in (("alpha", alpha[1]), ("lam", lam[1])):
        assert np.array_equal(got["axes"][name_], wanted)
    assert got["out"] == Path.cwd() / path
    assert (got["variables"], got["block_points"]) == (["test_error"], 7)


leaves = st.one_of(
    *(numbers, st.just(np.inf), st.just(np.nan), st.booleans(), st.integers(), any_grid),
    *(st.sampled_from(["tanh", "OneStep", "one_step", "isotropic"]), st.just(10**400)),
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["start", "stop", "count", "scale", "x"]), inner)
    ),
    max_leaves=6,
)
MODEL_KEYS = ["type", "activation", "eta", "alpha0", "r", "beta", "readout", "weights", "x"]
AXIS_KEYS = ["alpha", "lam", "d", "eta", "r", "beta", "x"]
tables = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"type": st.sampled_from(["OneStep", "SpikedRF"]) | anything},
            optional=dict.fromkeys(MODEL_KEYS[1:], anything),
        ),
        "axes": st.fixed_dictionaries(
            {"alpha": axis.map(lambda a: a[0]) | anything, "lam": values | anything},
            optional={
                **dict.fromkeys(AXIS_KEYS[2:], anything),
                "pairs": anything | st.lists(st.lists(st.sampled_from(AXIS_KEYS), max_size=3)),
            },
        ),
    },
    optional={
        "simulate": st.dictionaries(st.sampled_from(["d", "replicates", "seed", "x"]), anything),
        "output": st.dictionaries(
            st.sampled_from(["path", "variables", "bulk", "block_points", "x"]), anything
        ),
        "x": anything.filter(lambda v: isinstance(v, dict)),
    },
)


def refused_or_read(content):
    try:
        arguments = read(content)
    except (ValueError, click.UsageError):
        return
    arguments.pop("out", None)
    with contextlib.suppress(ValueError, TypeError):  # what was read is a scan, or refused likewise
        make_plan(arguments.pop("model"), arguments.pop("axes"), **arguments)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@settings(quick, max_examples=150)
@given(tables)
def test_any_values_are_read_or_refused(tables):
    refused_or_read(document(tables))


@settings(quick, max_examples=150)
@given(st.binary(max_size=60) | st.text(max_size=60))
@example(b"\xff\xfe[\0m\0")
@example("x = " + "[" * 3000)
@example("x = " + "9" * 5000)
@example("[model]\ntype = 1979-05-27\n[axes]\n")
@example("model = []\naxes = 1979-05-27T07:32:00Z")
@example("")
@example('[model]\ntype = "SpikedRF"\n[axes]\nalpha = 1\nlam = 1\n[output]\npath = {}\n')
def test_any_bytes_are_read_or_refused(content):
    refused_or_read(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )
