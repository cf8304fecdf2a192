"""Tables as CSV and JSON: the text that pandas and json write, character by character."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

import srfx
from srfx import _core, _tables
from srfx.results import Status

TRICKY = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, -2 / 3, 5e-324, -5e-324, 2.2250738585072014e-308),
        *(2.225073858507201e-308, 1.7976931348623157e308, 1e22, 1e23, 9007199254740993.0, 2.0**63),
        *(1e15, 1e16, 1e17, 123456789012345680.0, 9999999999999998.0, 0.0001, 0.00001, 1e-5, 1e-10),
        *(9.5367431640625e-07, 2.0**-44, 4.35, 0.3, 1e100, 1e-100, 123.456, 100.0, 1e5, 12345678.9),
        *(np.nan, np.inf, -np.inf),
    ]
)


def numbers():
    """Of every kind: any bits, powers of two and ten and their neighbours, few digits, integers."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64)
    powers = np.concatenate([2.0 ** np.arange(-1074, 1024), 10.0 ** np.arange(-323, 309)])
    beside = np.concatenate([np.nextafter(powers, 0), np.nextafter(powers, np.inf)])
    short = rng.integers(-(10**6), 10**6, 5000) / 10.0 ** rng.integers(-12, 12, 5000)
    usual = np.exp(rng.normal(scale=8, size=20_000)) * rng.choice([-1, 1], 20_000)
    return np.concatenate([bits, powers, beside, short, usual, np.arange(-300.0, 300), TRICKY])


def test_numbers_are_written_as_python_writes_them():
    values = numbers()
    text = _core.join_rows(["<", ">"], [values], 0, len(values), "nan", "inf")
    assert text == "".join(f"<{x!r}>" for x in values.tolist())


def as_csv(columns):
    file = io.StringIO()
    _tables.write_csv(columns, file)
    return file.getvalue()


def as_json(about, columns):
    file = io.StringIO()
    _tables.write_records(about, columns, file)
    return file.getvalue()


def columns():
    rng = np.random.default_rng(1)
    some = rng.permutation(numbers())[:20_000]
    return {
        "x": some,
        "test error": some[::-1],
        "constant": np.broadcast_to(np.float64(0.25), some.shape),
        "tricky": np.resize(TRICKY, some.shape),
        "count": rng.integers(-5, 50, some.size).astype(np.int32),
        "flag": rng.integers(0, 2, some.size).astype(bool),
        "name": rng.choice(["a", 'b, "c"', "ü\n"], some.size),
    }


@pytest.mark.parametrize("rows", [1, 2, _tables._ROWS, _tables._ROWS + 1, 20_000])
def test_csv_is_that_of_pandas(rows):
    table = {name: values[:rows] for name, values in columns().items()}
    assert as_csv(table) == pd.DataFrame(table).to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize("rows", [1, 2, _tables._ROWS, _tables._ROWS + 1, 20_000])
def test_json_is_that_of_json(rows):
    table = {name: values[:rows] for name, values in columns().items()}

    def plain(x):
        if isinstance(x, float) and not np.isfinite(x):
            return None if np.isnan(x) else str(x)
        return x

    about = {"model": "ü", "readout": [1.0], "d": np.inf, "nested": {"a": []}}
    records = [
        dict(zip(table, map(plain, row), strict=True))
        for row in zip(*(v.tolist() for v in table.values()), strict=True)
    ]
    wanted = json.dumps({**about, "d": "inf", "points": records}, indent=1) + "\n"
    assert as_json(about, table) == wanted


@pytest.mark.parametrize(
    "model",
    [srfx.OneStep(eta=[[0.5], [2.0]]), srfx.SpikedRF(readout=(0.5, 1.5), r=[[1.0], [0.1]])],
)
def test_solutions(model):
    from srfx.cli.solve import write_solution

    solution = srfx.solve(model, alpha=[0.5, 1.0, 2.0], lam=[[0.0], [0.1]], errors="record")
    assert not np.all(solution.success)
    frame = solution.to_dataframe()
    names = [Status(s).name.lower() for s in frame.status]
    file = io.StringIO()
    write_solution(solution, file, "csv")
    wanted = frame.assign(status=names).to_csv(index=False, lineterminator="\n")
    assert file.getvalue() == wanted
    assert next(csv.reader(io.StringIO(wanted))) == list(frame)
    file = io.StringIO()
    write_solution(solution, file, "json")
    points = json.loads(file.getvalue())["points"]
    assert [list(point) for point in points] == [list(frame)] * 6
    assert [point["status"] for point in points] == names
    got = pd.DataFrame(points)["test_error"].to_numpy(dtype=float)
    np.testing.assert_array_equal(got, frame.test_error)
