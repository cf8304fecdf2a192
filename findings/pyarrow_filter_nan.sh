#!/usr/bin/env bash
# pyarrow 26.0.1: the same filter finds a NaN row in a table, but not in the Parquet file that
# pyarrow wrote from that table.
#
# A good guess: a filter says which rows are wanted. Where the rows lie may change the speed, not
#   the answer.
# What happens: the writer leaves NaN out of the least and greatest value of a row group. The
#   reader takes these bounds as true of every row: if they settle the filter, the whole row group
#   is skipped, NaN rows and all. Without the statistics the file answers as the table does.
# Why it matters: failed points of a scan are NaN. "Not error <= 1" is how one asks for the points
#   to look at again, and it finds them until the scan is written to a file. Files with several row
#   groups are worse: whether a failed point is found depends on its neighbours in the file.
#
# Output seen:
#   row group: least 0.3, greatest 0.9, of 4 values
#   not (error <= 1): table 1, file 0, file without statistics 1
#   not (error <= 1), a second row group with an error of 2: table 3, file 2
#   error != 0.9, errors 0.9, NaN, 0.9: table 1, file 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" -I -W error - <<'PY'
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

NAN = float("nan")
error = ds.field("error")


def found(errors, wanted, **options):
    """Rows that pass the filter in memory, and in a file written from the same table."""
    table = pa.table({"error": errors})
    pq.write_table(table, "scan.parquet", **options)
    stored = ds.dataset("scan.parquet").to_table(filter=wanted)
    return table.filter(wanted).num_rows, stored.num_rows


errors = [0.5, 0.3, NAN, 0.9]
wanted = ~(error <= 1.0)
_, plain = found(errors, wanted, write_statistics=False)
table, file = found(errors, wanted)
bounds = pq.ParquetFile("scan.parquet").metadata.row_group(0).column(0).statistics
print(f"row group: least {bounds.min}, greatest {bounds.max}, of {bounds.num_values} values")
print(f"not (error <= 1): table {table}, file {file}, file without statistics {plain}")
assert (bounds.min, bounds.max, bounds.num_values) == (0.3, 0.9, 4)
assert (table, file, plain) == (1, 0, 1)

table, file = found([0.5, NAN, 2.0, NAN], wanted, row_group_size=2)
print(f"not (error <= 1), a second row group with an error of 2: table {table}, file {file}")
assert (table, file) == (3, 2)

table, file = found([0.9, NAN, 0.9], error != 0.9)
print(f"error != 0.9, errors 0.9, NaN, 0.9: table {table}, file {file}")
assert (table, file) == (1, 0)
PY
