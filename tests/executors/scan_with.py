"""Scan with an executor: python scan_with.py EXECUTOR FUNCTION OUT."""

import contextlib
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

os.environ.setdefault("SRFX_TEST_CALLER", str(os.getpid()))

import noted  # beside this file
import numpy as np

import srfx

AXES = {
    "r": np.linspace(0.5, 3, 4),
    "alpha": np.linspace(0.2, 3, 10),
    "lam": np.geomspace(1e-4, 1, 6),
}


def processes():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def forkserver():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"))


def loky():
    from loky import get_reusable_executor

    return get_reusable_executor(2)


def joblib():
    from joblib.externals.loky import get_reusable_executor

    return get_reusable_executor(2)


def parsl():
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    workers = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=2,
        provider=LocalProvider(init_blocks=1),
        heartbeat_period=2,
        heartbeat_threshold=6,  # seconds that workers stay when this process is no more
    )
    run_dir = os.path.join(os.environ["SRFX_TEST_FOLDER"], "parsl")
    return ParslPoolExecutor(Config([workers], run_dir=run_dir, usage_tracking=0))


def executorlib():
    from executorlib import SingleNodeExecutor

    return SingleNodeExecutor(max_workers=2, block_allocation=True, hostname_localhost=True)


@contextlib.contextmanager
def submitit():
    import submitit
    import submitit_local

    folder = os.path.join(os.environ["SRFX_TEST_FOLDER"], "submitit")
    yield submitit_local.Executor(submitit.LocalExecutor(folder))


@contextlib.contextmanager
def dask(**settings):
    from distributed import Client, LocalCluster

    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None} | settings
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        yield client


@contextlib.contextmanager
def dask_slurm():
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    job = {"cores": 2, "processes": 1, "memory": "2GB", "walltime": "00:10:00"}
    with SLURMCluster(**job, scheduler_options={"dashboard_address": None}) as cluster:
        cluster.adapt(minimum_jobs=2, maximum_jobs=2)
        with Client(cluster) as client:
            yield client


EXECUTORS = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": processes,
    "forkserver": forkserver,
    "loky": loky,
    "joblib": joblib,
    "parsl": parsl,
    "executorlib": executorlib,
    "submitit": submitit,
    "dask_threads": lambda: dask(processes=False, n_workers=1, threads_per_worker=2),
    "dask_processes": dask,
    "dask_slurm": dask_slurm,
}


def main():
    name, function, out = sys.argv[1:]
    chosen = (
        (lambda x: __import__("noted").tanh(x))
        if function == "lambda"
        else getattr(noted, function)
    )
    activation = srfx.Activation(chosen, name="tanh of mine")
    model = srfx.SpikedRF(activation, "sin")
    axes = AXES | {"block_points": 20}
    if name == "none":
        srfx.scan(model, out, **axes)
        return
    with EXECUTORS[name]() as executor:
        try:
            srfx.scan(model, out, executor, progress=False, **axes)
            print("finished")
        except (LookupError, ValueError) as error:
            print("seen:", error)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            raise


if __name__ == "__main__":
    main()
