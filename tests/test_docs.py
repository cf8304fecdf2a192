"""The examples of the docstrings and of the README run and print what they say."""

import doctest
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = (
    "reference._groups",
    "reference._instance",
    "reference._one_step",
    "reference._spiked",
    "losses",
    "reference._spikes",
    "reference._steps",
    "reference._targets",
    "targets",
    "weights",
    "optima",
    "reference._spectrum",
    "models",
    "theory",
    "gradient",
    "spectrum",
    "results",
    "plotting",
    "config",
    "_replicates",
    "_validation",
    "simulation",
    "scans.formats",
    "scans.merging",
    "scans.run",
    *(
        f"figures.figure_{name}"
        for name in (1, 2, 3, 4, 5, "network", "phase", "readout", "spectrum")
    ),
    "figures.catalogue",
    "figures.writing",
)
README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_docstring_examples(name):
    module = importlib.import_module(f"srfx.{name}")
    outcome = doctest.testmod(module)
    assert outcome.failed == 0
    if name in ("models", "theory", "results"):
        assert outcome.attempted > 5


@pytest.mark.skipif(not README.exists(), reason="README.md is not beside the tests")
@pytest.mark.parametrize(
    "name", ["README.md", "docs/start.md", "docs/losses.md", "docs/several.md", "docs/steps.md"]
)
@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_python_of_the_documents(name):
    path = README.parent / name
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names = {}  # a page is one session
    for block in blocks:
        outcome = doctest.DocTestRunner()
        test = doctest.DocTestParser().get_doctest(block, names, name, str(path), 0)
        assert test.examples
        outcome.run(test, clear_globs=False)
        assert outcome.summarize().failed == 0
        names = test.globs


@pytest.mark.skipif(not README.exists(), reason="README.md is not beside the tests")
def test_readme_commands(tmp_path):
    """Each `srfx` command of the README runs; where the README shows what follows, so does it."""
    text = README.read_text(encoding="utf-8")
    shutil.copy(README.parent / "examples" / "cluster" / "spec.toml", tmp_path)
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    ran = 0
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.removeprefix("$ ").split("&&"):
                words = shlex.split(part, comments=True)
                if words[:1] != ["srfx"]:
                    continue
                done = subprocess.run(
                    [sys.executable, "-c", "from srfx.cli import main; main()", *words[1:]],
                    cwd=tmp_path,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, (line, done.stderr)
                ran += 1
                if line.startswith("$ "):
                    assert done.stdout in block
    assert ran >= 3
