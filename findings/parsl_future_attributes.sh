#!/usr/bin/env bash
# parsl 2026.10.26: a future has every attribute, asking for one starts a task, and the future of a
# pair cannot be unpacked into two.
#
# A good guess: an AppFuture is a concurrent.futures.Future (isinstance says so). hasattr tells what
#   kind of future it is and costs nothing. Unpacking it fails as for any object that is no
#   sequence, or gives one future for each item of the pair.
# What happens: every public name and every index of a future is a new future, the task of taking
#   that attribute or item. So hasattr is True for any name and leaves a task behind. Unpacking asks
#   for items 0, 1 and 2, gets a future for each, and complains of too many values. A misspelt
#   method is a future too, and its AttributeError waits inside it.
# Why it matters: code that serves several kinds of executors tells their futures apart by what they
#   have (a key for dask, for one). A parsl future passes every such test.
#
# Output seen:
#   a concurrent.futures.Future: True
#   hasattr key: True, release: True, no_such_name: True; tasks started: 3
#   V1, V2 = future: ValueError: too many values to unpack (expected 2); result: (1.0, 2.0)
#   future.results is an AppFuture; its exception: AttributeError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet parsl==2026.10.26
cd "$work"
"$work/venv/bin/python" -I - <<'PY'
import concurrent.futures

import parsl
from parsl.config import Config
from parsl.executors.threads import ThreadPoolExecutor


@parsl.python_app(executors=["threads"])
def solve(penalty):
    return penalty, 2 * penalty


config = Config(executors=[ThreadPoolExecutor(label="threads", max_threads=1)], usage_tracking=0)
with parsl.load(config) as kernel:
    future = solve(1.0)
    pair = future.result(timeout=60)
    standard = isinstance(future, concurrent.futures.Future)
    print("a concurrent.futures.Future:", standard)
    assert standard

    before = kernel.task_count
    names = ("key", "release", "no_such_name")
    has = {name: hasattr(future, name) for name in names}
    started = kernel.task_count - before
    print("hasattr", ", ".join(f"{name}: {has[name]}" for name in names), end="; ")
    print("tasks started:", started)
    assert all(has.values()) and started == 3

    try:
        V1, V2 = future
    except ValueError as refused:
        message = f"{type(refused).__name__}: {refused}"
    else:
        message = f"{V1}, {V2}"
    print(f"V1, V2 = future: {message}; result: {pair}")
    assert message == "ValueError: too many values to unpack (expected 2)"
    assert pair == (1.0, 2.0)

    misspelt = future.results
    inside = type(misspelt.exception(timeout=60)).__name__
    print(f"future.results is an {type(misspelt).__name__}; its exception: {inside}")
    assert (type(misspelt).__name__, inside) == ("AppFuture", "AttributeError")
PY
