"""Other packages with a runtime of OpenMP of their own in the process, imported before or after.

A wheel of srfx has GCC's runtime inside, as those of scikit-learn and PyTorch have theirs.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import srfx

OTHERS = {
    "sklearn": """
        def other():
            from sklearn.cluster import KMeans
            from sklearn.datasets import make_blobs
            x, _ = make_blobs(3000, centers=5, random_state=0)
            return KMeans(5, n_init=1, random_state=0).fit(x).inertia_ > 0
    """,
    "torch": """
        def other():
            import torch
            torch.set_num_threads(2)
            x = torch.linspace(-1, 1, 360000, dtype=torch.float64).reshape(600, 600)
            x.requires_grad_(True)
            (x @ x.T).square().sum().backward()
            return bool(torch.isfinite(x.grad).all())
    """,
}
CODE = """
import threading, {first}, {second}
import numpy as np
import srfx
{other}
def own():
    alpha = np.geomspace(0.1, 10, 20000)
    return srfx.solve(srfx.SpikedRF(gamma=0.8), alpha, 0.1, n_threads=2).test_error
want = own()
for _ in range(3):
    assert other()
    np.testing.assert_array_equal(own(), want)
errors = []
def at_once(work):
    try:
        for _ in range(3):
            assert np.all(work())
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=at_once, args=(work,)) for work in (own, other, own, other)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not errors, errors
print("done")
"""


@pytest.mark.parametrize("srfx_first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", OTHERS)
def test_side_by_side(name, srfx_first):
    """Both compute on several threads, by turns and at once, and srfx the same bits."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}")
    first, second = ("srfx", name) if srfx_first else (name, "srfx")
    other = "\n".join(line[8:] for line in OTHERS[name].splitlines())
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(first=first, second=second, other=other)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(srfx.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"]
