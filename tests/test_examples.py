"""The scripts of examples/ run as they are, and say what they should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

#: What a line of the output must match.
EXPECTED = {
    "first_curve": r"wrote first_curve\.png; .* at most [0-3]\.\d standard errors",
    "optimal_lam": r"one step: alpha = 4, best lam = \S+, test error = 0\.0[345]",
    "own_weights": r"test error: theory 0\.\d+, experiment 0\.\d+ \+- 0\.00",
    "own_activation": r"and said so: \['AccuracyWarning'",
}

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples/ is not beside the tests")


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(EXPECTED[name], done.stdout), done.stdout
    assert done.stderr == ""


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)
