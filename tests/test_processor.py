"""The core on the processor at hand and, under qemu, on others: which set is used, what it yields.

A copy that was compiled for several sets (`nox -s processors`) is tested with each.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import srfx
from srfx import _processor, reference

BUILT = _processor.lacking()
USABLE = [name for name, missing in BUILT.items() if not missing]
QEMU = shutil.which("qemu-x86_64") if platform.machine() == "x86_64" else None
#: Models of qemu's, the words of sets that they have, and the best of ours among these. None of
#: qemu 7.2 has AVX-512, and "max" all that qemu can do.
MODELS = {
    "Nehalem": ({"baseline", "v2"}, "v2"),
    "Haswell": ({"baseline", "v2", "v3"}, "v3"),
    "EPYC-Rome": ({"baseline", "v2", "v3"}, "v3"),
    "max": ({"baseline", "v2", "v3"}, "v3"),
}
POINT = {"alpha": 1.5, "lam": 0.01}
VALUES = f"""
import json, warnings, srfx
point = {POINT}
def of(sol):
    return [float(x).hex() for x in (sol.test_error, sol.train_error)]
out = {{}}
out["isotropic"] = of(srfx.solve(srfx.SpikedRF("tanh", "sin", gamma=0.8), **point))
out["kinks"] = of(srfx.solve(srfx.SpikedRF("relu", "relu", r=0.8, gamma=0.5), **point))
groups = srfx.SpikedRF("erf", "sin", r=0.8, gamma=0.5, readout=[-1.0, 0.5], weights=[0.4, 0.6])
out["groups"] = of(srfx.solve(groups, **point))
out["step"] = of(srfx.solve(srfx.OneStep("tanh", "sin", eta=2.0, alpha0=3.0), **point,
                            bulk="one_step"))
loss = srfx.solve(srfx.SpikedRF("tanh", "sin", gamma=0.8), **point, loss=srfx.Huber(0.5))
out["Huber"] = of(loss)
found = srfx.simulate(srfx.SpikedRF("tanh", "sin", gamma=0.8), d=40, replicates=2, n_threads=1,
                      **point)
out["simulation"] = [float(x).hex() for x in found.test_error.values.ravel()]
config = srfx.show_config(mode="dicts")
print(json.dumps([config["instruction_set"].split()[0], out]))
"""


def run_as(model=None, isa="", code=VALUES):
    """Run Python on a processor of this model, which qemu plays, or on this one."""
    # What is set for OpenBLAS on this machine is not for the others.
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OPENBLAS_")}
    paths = [str(Path(srfx.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    kept |= {"OPENBLAS_NUM_THREADS": "1", "SRFX_ISA": isa, "PYTHONPATH": os.pathsep.join(paths)}
    player = [] if model is None else [QEMU, "-cpu", model]
    return subprocess.run(
        [*player, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=kept,
    )


def values(**kwargs):
    done = run_as(**kwargs)
    assert done.returncode == 0, done.stderr
    name, out = json.loads(done.stdout)
    return name, {key: [float.fromhex(x) for x in found] for key, found in out.items()}


def refusal(done):
    """The sentence that ends a failed import."""
    assert done.returncode == 1, done
    return done.stderr.strip().splitlines()[-1]


SOME = {"v4": "avx512f, avx512vl", "v3": "", "v2": ""}


def test_the_best_set_that_can_be_used_is():
    assert _processor.choose(None, SOME) == "v3"
    assert _processor.choose("", {"v4": "", **SOME}) == "v3"
    assert _processor.choose(None, {"native": ""}) == "native"


def test_the_environment_names_another():
    assert _processor.choose("v2", SOME) == "v2"
    with pytest.raises(ImportError, match=r"compiled for, v4, v3, v2; got 'v5'$"):
        _processor.choose("v5", SOME)
    with pytest.raises(ImportError, match=r"SRFX_ISA is 'v4'.* lacks avx512f, avx512vl$"):
        _processor.choose("v4", SOME)


def test_a_processor_without_any_is_refused():
    with pytest.raises(ImportError, match=r"other processors \(v4, native\): this one lacks avx2;"):
        _processor.choose(None, {"v4": "avx512f", "native": "avx2"})


def test_the_set_is_shown():
    name, _ = values()
    assert name == USABLE[0]
    assert srfx.show_config(mode="dicts")["instruction_sets"] == ", ".join(BUILT)
    done = run_as(isa="v9", code="import srfx")
    assert refusal(done).startswith("ImportError: SRFX_ISA must name")


@pytest.mark.parametrize("isa", USABLE)
def test_every_set_meets_the_witness(isa):
    name, got = values(isa=isa)
    assert name == isa
    want = {
        "isotropic": reference.solve("tanh", "sin", r=0.9, c=1.0, gamma=0.8, beta=1.0, **POINT),
        "kinks": reference.solve("relu", "relu", r=0.8, c=1.0, gamma=0.5, beta=1.0, **POINT),
        "step": reference.solve_one_step(
            srfx.OneStep("tanh", "sin", eta=2.0, alpha0=3.0), POINT["alpha"], POINT["lam"]
        ),
    }
    for key, sol in want.items():
        assert got[key] == pytest.approx([sol.test_error, sol.train_error], rel=1e-10), key
    for key, other in values()[1].items():  # and the best set, in all
        assert got[key] == pytest.approx(other, rel=1e-10), key


@pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (Debian's qemu-user)")
@pytest.mark.parametrize("model", MODELS)
def test_on_another_processor(model):
    has, _ = MODELS[model]
    best = [name for name in BUILT if name in has]
    if best:
        name, got = values(model=model)
        assert name == best[0]
        here, want = values(isa=name) if name in USABLE else (name, got)
        assert (here, got) == (name, want)  # to the last bit
    elif "native" not in BUILT or USABLE == ["native"]:
        done = run_as(model=model, code="import srfx")
        assert "ImportError: srfx was compiled for other processors" in refusal(done)
    for name in set(BUILT) - has - {"native"}:
        assert f"SRFX_ISA is {name!r}" in refusal(run_as(model=model, isa=name, code="import srfx"))


EXTENSIONS = [
    file
    for file in Path(srfx.__file__).parent.glob("_core_*.so")
    if file.name.split(".")[0].removeprefix("_core_") in ("cpu", *BUILT)
]
#: Of AVX and what came with it; of AVX-512.
WIDER = dict.fromkeys(("cpu", "v2"), r"\t(v[a-z]|(andn|mulx|rorx|sarx|shlx|shrx)\b)")
WIDER |= {"v3": r"zmm\d|\{%k\d\}|\tk[a-z]"}


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump (binutils)")
@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF")
@pytest.mark.parametrize("file", EXTENSIONS, ids=lambda file: file.name.split(".")[0])
def test_no_extension_has_what_belongs_to_another(file):
    """No instruction of a wider set, and no symbol that others could be linked with."""
    name = file.name.split(".")[0].removeprefix("_core_")
    table = subprocess.run(["nm", "-D", "--defined-only", file], capture_output=True, text=True)
    assert [line.split()[-1] for line in table.stdout.splitlines()] == [f"PyInit__core_{name}"]
    if name in WIDER:
        with subprocess.Popen(
            ["objdump", "-d", "--no-show-raw-insn", file], stdout=subprocess.PIPE, text=True
        ) as dump:
            wider = re.compile(WIDER[name])
            found = [line for line in dump.stdout if wider.search(line)]
        assert found == []


def configured(folder, isa):
    """What CMake says of these sets: its status, and its output on one line."""
    (folder / "Eigen").mkdir()
    (folder / "Eigen" / "Core").touch()
    options = {"BUILD_PYTHON": "OFF", "USE_OPENMP": "OFF", "EIGEN_DIR": folder, "ISA": isa}
    done = subprocess.run(
        ["cmake", "-S", Path(__file__).parents[1], "-B", folder / "build"]
        + [f"-DSRFX_{name}={value}" for name, value in options.items()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.parametrize(
    ("isa", "message"),
    [
        ("cpu=-mavx2", "must not name a set cpu"),
        ("auto;baseline", "must be auto, or list native, .*; got auto"),
        ("baseline;baseline", "names baseline twice"),
        ("none=-mno-such-thing", "does not know -mno-such-thing"),
    ],
)
def test_sets_that_cannot_be_are_refused(tmp_path, isa, message):
    status, said = configured(tmp_path, isa)
    assert status != 0
    assert re.search(message, said)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels of x86-64")
def test_auto_names_levels(tmp_path):
    """Levels, not this processor's own features; below AVX-512 also AVX2."""
    status, said = configured(tmp_path, "auto")
    assert status == 0, said
    assert re.search(r"instruction sets (v4;v3|v3|v2) ", said)
