#!/usr/bin/env bash
# submitit 1.5.4: the type of an error in a job depends on the executor: its DebugExecutor raises the
# error itself, the LocalExecutor a FailedJobError that no handler for the first one catches.
#
# A good guess: a job's result() raises what the function raised, as a future of the standard library
#   does. The debug executor, made to try a program before it is sent away, behaves as the others do.
# What happens: in a process of its own the error becomes text: a FailedJobError, a RuntimeError without
#   __cause__, that holds the traceback of the first. job.exception() returns the same.
# Why it matters: a program that goes on after a point that cannot be solved (`except ValueError`) works
#   with the debug executor, and ends at the first such point on the cluster.
#
# Output seen:
#   DebugExecutor: ValueError
#   LocalExecutor: FailedJobError, a RuntimeError; a ValueError: False; cause: None; in its text: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet submitit==1.5.4
cd "$work"
cat > fails.py <<'PY'
import pdb

import submitit

pdb.post_mortem = lambda *_: None  # the debug executor would stop there and ask


def solve(penalty):
    raise ValueError(f"penalty must be >= 0; got {penalty}")


def error_of(executor):
    try:
        executor.submit(solve, -1).result()
    except Exception as error:
        return error


error = error_of(submitit.DebugExecutor("debug"))
print(f"DebugExecutor: {type(error).__name__}")
error = error_of(submitit.LocalExecutor("jobs"))
print(
    f"LocalExecutor: {type(error).__name__}, a RuntimeError; a ValueError: "
    f"{isinstance(error, ValueError)}; cause: {error.__cause__}; in its text: "
    f"{'ValueError: penalty must be >= 0; got -1' in str(error)}"
)
assert isinstance(error, RuntimeError)
PY
"$work/venv/bin/python" -W ignore fails.py 2> /dev/null | tail -n 2 | tee said  # before them the debugger speaks
diff said - <<'SEEN'
DebugExecutor: ValueError
LocalExecutor: FailedJobError, a RuntimeError; a ValueError: False; cause: None; in its text: True
SEEN
