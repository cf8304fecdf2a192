"""submitit on one machine: each block is a process. Needs srfx[scan] and submitit.

With `AutoExecutor` in place of `LocalExecutor` each block is a job of Slurm: give block_points such
that it is worth one.
"""

import sys

import submitit
from common import run


def caught(work, *arguments):
    """Hand errors back as they are: submitit makes text of those that are raised."""
    try:
        return work(*arguments), None
    except Exception as error:
        return None, error


class Job:
    """A job of submitit as a future whose result keeps the type of an error."""

    def __init__(self, job):
        self.job, self.done, self.cancel = job, job.done, job.cancel

    def result(self):
        """Wait for the result, or raise the error of the block."""
        value, error = self.job.result()
        if error is not None:
            raise error
        return value


class Executor:
    """submitit's executor, whose workers are as many blocks as are in flight."""

    def __init__(self, executor):
        self.executor = executor

    def submit(self, work, *arguments):
        """Start a job."""
        return Job(self.executor.submit(caught, work, *arguments))


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else "scan.zarr"
    run(out, Executor(submitit.LocalExecutor(f"{out}.jobs")))
