#!/usr/bin/env bash
# safetensors 0.8.0, ml_dtypes 0.6.0 and NumPy 2.4.6: the mean of 4096 weights of one, read in
# bfloat16, is 0.0625.
#
# A good guess: bfloat16 has eight bits, so a mean is right to about 0.4 per cent. NumPy's own
#   float16, with eleven bits, gives exactly 1: NumPy sums it in a wider type.
# What happens: NumPy does not do so for a type that is not its own (dtype.kind is 'V', and
#   np.issubdtype(dtype, np.floating) is False). The sum is a running bfloat16 that stays at 256,
#   since 256 + 1 rounds to 256. The mean, the variance and the standard deviation follow from it.
#   The product w @ w of the same numbers is right, and so are the norm and the median.
# Why it matters: this is the type in which a weight file hands over the weights of a network. The
#   second moment of a matrix of standard normal weights comes out as nearly nothing, and that of
#   its rows almost a fifth too small, with no warning.
#
# Output seen:
#   float16  sum 4096 mean 1 std 0
#   bfloat16 sum 256 mean 0.0625 std 0.25
#   bfloat16 w @ w 4096 norm 64 median 1
#   second moment of 1000 x 1000 normal weights: 0.006, of its rows: 0.82, in float32: 1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet safetensors==0.8.0 ml_dtypes==0.6.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -I -W error - <<'PY'
import numpy as np
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file


def reread(weights):
    """The weights, from a file."""
    save_file({"weights": weights}, "network.safetensors")
    return load_file("network.safetensors")["weights"]


assert np.dtype(bfloat16).kind == "V" and not np.issubdtype(bfloat16, np.floating)
for dtype, expected in ((np.float16, (4096, 1, 0)), (bfloat16, (256, 0.0625, 0.25))):
    w = reread(np.ones(4096, dtype))
    assert w.dtype == dtype
    seen = tuple(float(value) for value in (w.sum(), w.mean(), w.std()))
    print(f"{np.dtype(dtype).name:8} sum {seen[0]:g} mean {seen[1]:g} std {seen[2]:g}")
    assert seen == expected

square, norm, median = float(w @ w), float(np.linalg.norm(w)), float(np.median(w))
print(f"bfloat16 w @ w {square:g} norm {norm:g} median {median:g}")
assert (square, norm, median) == (4096, 64, 1)

weights = reread(np.random.default_rng(0).normal(size=(1000, 1000)).astype(bfloat16))
whole = float(np.mean(np.square(weights)))
rows = float(np.mean(np.square(weights), axis=1).astype(np.float32).mean())
wide = float(np.mean(np.square(weights.astype(np.float32))))
print(
    f"second moment of 1000 x 1000 normal weights: {whole:.3f},"
    f" of its rows: {rows:.2f}, in float32: {wide:.2f}"
)
assert abs(whole - 0.006) < 0.001 and abs(rows - 0.82) < 0.02 and abs(wide - 1) < 0.01
PY
