#!/usr/bin/env bash
# polars 2.1.0: a column with NaN has rows that are greater than its maximum, and the row of the
# greatest value is another by arg_max than by top_k.
#
# A good guess: either NaN counts, and the maximum is NaN, or it is passed over, and what is greater
#   than the maximum is nothing. One of the two holds for all verbs.
# What happens: max, min and arg_max pass NaN over. Comparisons, filter, sort and top_k take it for
#   greater than every number, and so does quantile(1.0), the maximum by another name.
# Why it matters: NaN is what a point without a solution holds in the table of a scan. A filter for
#   large errors returns the points that were never solved, top_k(1) is one of them, and the checks
#   that one would make of it, max and arg_max, say that there is none.
#
# Output seen:
#   errors 0.2, NaN, 0.4: max 0.4; rows above max: [nan]; rows above 1e300: 1
#   greatest: by arg_max 0.4, by top_k nan, by sort nan; quantile(1.0) nan; mean nan
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet polars==2.1.0
cd "$work"
"$work/venv/bin/python" -I -W error - <<'PY' | tee said
import polars as pl

table = pl.DataFrame({"error": [0.2, float("nan"), 0.4]})
error, column = pl.col("error"), table["error"]
above = table.filter(error > error.max())["error"].to_list()
print(
    f"errors 0.2, NaN, 0.4: max {column.max()}; rows above max: {above}; "
    f"rows above 1e300: {table.filter(error > 1e300).height}"
)
top = table.top_k(1, by="error")["error"][0]
last = table.sort("error")["error"][-1]
print(
    f"greatest: by arg_max {column[column.arg_max()]}, by top_k {top}, by sort {last}; "
    f"quantile(1.0) {column.quantile(1.0)}; mean {column.mean()}"
)
PY
diff said - <<'SEEN'
errors 0.2, NaN, 0.4: max 0.4; rows above max: [nan]; rows above 1e300: 1
greatest: by arg_max 0.4, by top_k nan, by sort nan; quantile(1.0) nan; mean nan
SEEN
