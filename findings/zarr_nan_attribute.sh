#!/usr/bin/env bash
# zarr 3.1.6 and tensorstore 0.1.86: one attribute that is NaN or infinite, and the array cannot be
# opened by tensorstore.
#
# A good guess: attributes are free-form notes that a reader of the numbers can ignore. NaN is fine
#   in any case, since zarr writes it as the string "NaN" where it is a fill value.
# What happens: zarr writes such an attribute as a bare NaN or Infinity into zarr.json. This is not
#   JSON, so a strict reader refuses the whole file, and with it an array it could read. In Python
#   nothing shows, since its json module reads back what it wrote; xarray passes the value on.
# Why it matters: infinity is an ordinary value of a parameter (samples per width in a limit), and
#   NaN of one that is not set. A store that carries its parameters as attributes
#   can then be read by lenient readers alone.
#
# Output seen:
#   zarr, attribute 0.5: zarr reads 0.5, tensorstore reads the array
#   zarr, attribute nan: zarr reads nan, tensorstore: Invalid JSON
#   zarr, attribute inf: zarr reads inf, tensorstore: Invalid JSON
#   zarr, fill value nan: tensorstore reads the array
#   xarray, attribute inf: tensorstore: Invalid JSON
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zarr==3.1.6 tensorstore==0.1.86 xarray==2026.9.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -I - <<'PY'
import math

import numpy as np
import tensorstore as ts
import xarray as xr
import zarr


def strict(path):
    """What tensorstore says to an array on disk."""
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    try:
        assert ts.open(spec).result().read().result().tolist() == [1.0, 2.0]
    except ValueError as refused:
        assert "zarr.json" in str(refused) and "Invalid JSON" in str(refused)
        return "tensorstore: Invalid JSON"
    return "tensorstore reads the array"


errors = np.array([1.0, 2.0])
READ, REFUSED = "tensorstore reads the array", "tensorstore: Invalid JSON"
for value, expected in ((0.5, READ), (math.nan, REFUSED), (math.inf, REFUSED)):
    path = f"{value}.zarr"
    zarr.create_array(path, data=errors, attributes={"ratio": value})
    own = zarr.open_array(path).attrs["ratio"]
    seen = strict(path)
    print(f"zarr, attribute {value}: zarr reads {own}, {seen}")
    assert str(own) == str(value) and seen == expected

zarr.create_array("fill.zarr", data=errors, fill_value=math.nan)
print("zarr, fill value nan:", strict("fill.zarr"))
assert strict("fill.zarr") == READ

scan = xr.Dataset({"error": ("point", errors, {"ratio": math.inf})})
scan.to_zarr("scan.zarr", consolidated=False, zarr_format=3)
print("xarray, attribute inf:", strict("scan.zarr/error"))
assert strict("scan.zarr/error") == REFUSED
PY
