#!/usr/bin/env bash
# xarray 2026.9.0 (with pandas 3.1.1): a table whose MultiIndex holds NaN comes back with the
# values of the NaN rows written over those of another label.
#
# A good guess: Dataset.from_dataframe undoes to_dataframe. xarray aligns and selects NaN labels,
#   and a table with a single index keeps its NaN label. At worst the rows are dropped, or refused.
# What happens: pandas codes a missing label of a MultiIndex as -1. xarray uses the codes as
#   positions, and position -1 is the last label. The value there is replaced, without a word.
#   A combination that is absent from the table is then sometimes 0.0 instead of NaN.
# Why it matters: NaN is a natural label for "does not apply", such as the penalty of a network
#   that was not trained, and scans go to tables and back. The errors of one point become those of
#   another, and no NaN is left to show it.
#
# Output seen:
#   before: penalty [0.5, nan] error [[1.0, 10.0], [2.0, 20.0]]
#   after:  penalty [0.5] error [[10.0], [20.0]]
#   stacked and unstacked: [[10.0], [20.0]]
#   a single index: penalty [0.5, nan] error [1.0, 10.0]
#   absent from the table: erf at 0.2 is 0.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet xarray==2026.9.0 pandas==3.1.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -I -W error - <<'PY'
import numpy as np
import pandas as pd
import xarray as xr


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


before = xr.Dataset(
    {"error": (("width", "penalty"), [[1.0, 10.0], [2.0, 20.0]])},
    coords={"width": [100, 200], "penalty": [0.5, np.nan]},
)
after = xr.Dataset.from_dataframe(before.to_dataframe())
for name, data in (("before:", before), ("after: ", after)):
    print(name, "penalty", data.penalty.values.tolist(), "error", data.error.values.tolist())
assert same(after.penalty, [0.5])
assert same(after.error, [[10.0], [20.0]])

again = before.error.stack(point=("width", "penalty")).unstack("point")
print("stacked and unstacked:", again.values.tolist())
assert same(again, [[10.0], [20.0]])

single = before.sel(width=100, drop=True)
back = xr.Dataset.from_dataframe(single.to_dataframe())
print("a single index: penalty", back.penalty.values.tolist(), "error", back.error.values.tolist())
assert same(back.penalty, [0.5, np.nan]) and same(back.error, [1.0, 10.0])

rows = [("relu", 0.1), ("relu", 0.2), ("relu", np.nan), ("erf", 0.1)]
index = pd.MultiIndex.from_tuples(rows, names=["activation", "penalty"])
sparse = pd.DataFrame({"error": [1.0, 2.0, 3.0, 4.0]}, index=index).to_xarray()
absent = sparse.error.sel(activation="erf", penalty=0.2).item()
print("absent from the table: erf at 0.2 is", absent)
assert absent == 0.0
PY
