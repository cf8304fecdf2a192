#!/usr/bin/env bash
# distributed 2026.8.0: through Client.get_executor(), two calls of a function that has an argument
# named "key" give one and the same result.
#
# A good guess: the executor is a concurrent.futures.Executor, and the docstring of its submit says
#   that the function is executed as fn(*args, **kwargs). What a pool of threads computes, it does.
# What happens: the keywords are handed to Client.submit, which keeps for itself those it knows:
#   key, retries, priority, workers, pure and others. The function never sees them and falls back on
#   what it has of its own. Worse, "key" names the task: a second call with the same key is taken
#   to be the first, and its arguments are thrown away.
# Why it matters: "key" is what JAX programs call the seed of their random numbers, and "retries"
#   and "priority" are names a solver may well have. A scan of one seed over several penalties gives
#   the error of the first penalty everywhere, with another seed than was asked for.
#
# Output seen:
#   threads: [(0.1, 7), (0.2, 7)] and retries 3
#   dask:    [(0.1, 0), (0.1, 0)] and retries 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet distributed==2026.8.0 dask==2026.8.0
cd "$work"
"$work/venv/bin/python" -I - <<'PY'
from concurrent.futures import Executor, ThreadPoolExecutor

from distributed import Client


def simulate(penalty, key=0):
    return penalty, key


def solve(retries=1):
    return retries


def ask(name, executor):
    assert isinstance(executor, Executor)
    futures = [executor.submit(simulate, penalty, key=7) for penalty in (0.1, 0.2)]
    results = [future.result(timeout=60) for future in futures]
    retries = executor.submit(solve, retries=3).result(timeout=60)
    print(f"{name:8} {results} and retries {retries}")
    return results, retries


if __name__ == "__main__":
    with ThreadPoolExecutor(1) as executor:
        assert ask("threads:", executor) == ([(0.1, 7), (0.2, 7)], 3)
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(processes=False, **options) as client, client.get_executor() as executor:
        assert ask("dask:", executor) == ([(0.1, 0), (0.1, 0)], 1)
PY
