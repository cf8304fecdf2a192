"""Two builds of srfx on the same work, each in a process of its own, in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np


def serve(works: Mapping[str, Callable[[], Any]]) -> None:
    """In a build's process: do the works whose names come in, say what took how long."""
    print(json.dumps(list(works)), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        solution = works[line.strip()]()
        spent = time.process_time() - start
        errors = [np.ravel(x)[:200].tolist() for x in (solution.test_error, solution.train_error)]
        each = 1e6 * spent / solution.size
        print(json.dumps({"us": each, "errors": errors}), flush=True)


def beside(
    folder: str, program: str, points: int, rounds: int, tolerance: float = 1e-11
) -> list[dict[str, Any]]:
    """Run `program --serve --points N` with both builds, and print microseconds a point of each."""
    words = [sys.executable, program, "--serve", "--points", str(points)]
    here = os.environ.get("PYTHONPATH", "")
    paths = (os.path.abspath(folder) + os.pathsep + here, here)
    builds = [
        subprocess.Popen(
            words,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for path in paths
    ]

    def ask(build: Any, name: str) -> Any:
        build.stdin.write(name + "\n")
        build.stdin.flush()
        return json.loads(build.stdout.readline())

    names, _ = (json.loads(build.stdout.readline()) for build in builds)  # type: ignore[union-attr]
    rows = []
    print(f"{'beside the build before':47} {'us/point':>9} {'before':>9} {'ratio':>7}")
    for name in names:
        pairs = [[ask(build, name) for build in builds] for _ in range(rounds + 1)][1:]
        old, new = (np.array(answer["errors"]) for answer in pairs[0])
        gap = float(np.nanmax(np.abs(new / old - 1)))
        if gap > tolerance:
            raise SystemExit(f"{name}: the builds differ by {gap:.1e}")
        before, after = (median(pair[i]["us"] for pair in pairs) for i in (0, 1))
        ratio = median(pair[0]["us"] / pair[1]["us"] for pair in pairs)
        print(f"{name:47} {after:9.2f} {before:9.2f} {ratio:7.2f} {gap:11.1e}", flush=True)
        rows.append({"network": name, "us": after, "before_us": before, "ratio": ratio})
    for build in builds:
        build.communicate()
    return rows
