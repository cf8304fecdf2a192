"""Whatever runs blocks elsewhere: PEP 3148 executors and dask clients behind one small face."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from functools import partial
from queue import SimpleQueue
from typing import Any

from srfx import _validation as check

#: Blocks handed out for each worker: one it works on and one that waits.
IN_FLIGHT = 2

#: Seconds that workers known to be there have for taking a function.
PATIENCE = 60.0


def is_dask(executor: object) -> bool:
    """Whether it is a dask client; dask is not imported to find out."""
    return check.of_loaded(executor, "distributed", "Client")


def check_executor(executor: object) -> None:
    """Refuse what cannot run blocks, pools that fork and what is shut down."""
    if _is_shut_down(executor):
        raise ValueError(f"executor must be running; this one is shut down: {executor!r}")
    if is_dask(executor):
        if getattr(executor, "asynchronous", False):
            raise TypeError("executor must be a synchronous dask client; got an asynchronous one")
        return
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be None, have a method submit (PEP 3148) or be a dask Client; "
            f"got {executor!r}"
        )
    if (ranks := _pools_of_mpi(executor)) > 1:
        raise ValueError(
            f"executor must be one pool of the whole MPI job; each of its {ranks} ranks runs this "
            f"script with one of its own: start it with mpiexec -n {ranks} python -m "
            "mpi4py.futures SCRIPT"
        )
    context: Any = getattr(executor, "_mp_context", None)
    method = context.get_start_method() if hasattr(context, "get_start_method") else None
    if method == "fork":
        raise ValueError(
            "executor must not fork its workers (threads do not survive it); got a pool that does: "
            "use ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))"
        )


def _is_shut_down(executor: object) -> bool:
    """Whether it says that it takes no more work; what tells nobody says so when it is asked."""
    if is_dask(executor):
        return getattr(executor, "status", None) in ("closing", "closed")
    # Where threads and mpi4py, processes, and loky note it. Processes have `_broken` too, and say.
    noted = (
        getattr(executor, "_shutdown", None),
        getattr(executor, "_shutdown_thread", None),
        getattr(getattr(executor, "_flags", None), "shutdown", None),
    )
    return any(word is True for word in noted)


def _pools_of_mpi(executor: object) -> int:
    """How many ranks have made a pool of mpi4py, each for itself; 1 if it is as it should be."""
    if not check.of_loaded(executor, "mpi4py.futures", "MPIPoolExecutor"):
        return 1
    if getattr(executor, "_pool", None) is not None:  # of MPICommExecutor, or it has begun
        return 1
    from mpi4py import MPI
    from mpi4py.futures import _core

    shared = getattr(_core, "SharedPool", executor)  # what -m mpi4py.futures sets up
    return int(MPI.COMM_WORLD.Get_size()) if shared is None else 1


def _loaded(data: bytes) -> str | None:
    """Load what was pickled, on a worker; hand back what is wrong, if anything."""
    try:
        pickle.loads(data)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _arrived(*_: object) -> None:
    """Do nothing: that it runs says that its arguments have arrived."""


def in_flight(most: object) -> int | None:
    """Check ``max_in_flight``."""
    return None if most is None else check.integer("max_in_flight", most, 1)


class Pool:
    """Runs tasks, a few in flight, and gives results as they come.

    Parameters
    ----------
    executor : Executor or dask Client
        Not closed here.
    max_in_flight : int, optional
        How many tasks are handed out at a time. None: `IN_FLIGHT` for each worker.
    """

    def __init__(self, executor: Any, max_in_flight: int | None = None) -> None:
        check_executor(executor)
        self.executor = executor
        self.max_in_flight = max_in_flight
        self.dask = is_dask(executor)
        self.same_process = isinstance(executor, ThreadPoolExecutor)

    def workers(self) -> int:
        """How many tasks run at once."""
        client: Any = self.executor if self.dask else getattr(self.executor, "_client", None)
        if is_dask(client):
            threads: dict[str, int] = client.nthreads()
            return max(1, sum(threads.values()))
        for name in ("_max_workers", "num_workers"):
            count = getattr(self.executor, name, None)
            if isinstance(count, int) and count > 0:
                return count
        return os.cpu_count() or 1

    def check_portable(self, functions: tuple[Any, ...]) -> None:
        """Refuse callables that do not get to the workers, having tried it before any work.

        They are sent as bytes first: what cannot be loaded fails inside a task and leaves the pool
        whole. Where that fails, by reference, the executor may still send functions by value, as
        dask and loky do; a function that has no name shows whether it does.
        """
        if self.same_process or not any(map(callable, functions)):
            return
        try:
            data, wrong = pickle.dumps(functions), None
        except Exception as error:
            data, wrong = pickle.dumps(None), f"{type(error).__name__}: {error}"
        by_reference = type(self.executor) is ProcessPoolExecutor
        if wrong is None or not by_reference:  # an answer also says that there are workers
            wrong = wrong or self._ask(_loaded, data)
            if wrong is None:
                return
        if not by_reference:
            try:
                self._ask(lambda: None, seconds=PATIENCE)
                self._ask(_arrived, *functions, seconds=PATIENCE)  # a tuple is a task to old dask
                return
            except Exception as error:
                wrong += f"; {type(error).__name__}: {error}"
        raise ValueError(
            "model must have callables that the workers of executor can load: functions of a "
            "module that they import, no lambdas and none defined in a notebook or under "
            f"`if __name__ == '__main__'` (dask and loky take those); got {functions!r} ({wrong})"
        )

    def _ask(self, work: Callable[..., Any], *arguments: Any, seconds: float | None = None) -> Any:
        """Run one call on a worker and wait for it."""
        future = self._submit(work, *arguments)
        try:
            timed = seconds is not None and isinstance(future, Future)
            with explained():
                return future.result(seconds) if timed else future.result()
        except BaseException:
            self._cancel({future})
            raise

    def run(
        self, work: Callable[[Any], Any], tasks: Iterable[Any], stop: Callable[[], None]
    ) -> Generator[Any, None, None]:
        """Yield what ``work`` returns for each task, in the order in which they end.

        ``stop`` is called before unfinished tasks are abandoned: it makes those in threads of this
        process end.
        """
        waiting = iter(tasks)
        running: set[Any] = set()
        ended: SimpleQueue[Any] = SimpleQueue()
        try:
            while True:
                most = self.max_in_flight or IN_FLIGHT * self.workers()
                for _ in range(most - len(running)):
                    task = next(waiting, None)
                    if task is None:
                        break
                    with explained():
                        future = self._submit(work, task)
                    running.add(future)
                    if not self.dask and hasattr(future, "add_done_callback"):
                        future.add_done_callback(partial(_put, ended, future))
                if not running:
                    return
                with explained():
                    future = self._finished(running, ended)
                    running.discard(future)
                    result = future.result()
                yield result
        finally:
            if running:
                stop()
                begun = self._cancel(running)
                if self.same_process:  # they stop at the next piece: nobody writes after this
                    wait(begun)

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if self.dask:
            return self.executor.submit(work, *arguments, pure=False)
        future = self.executor.submit(work, *arguments)
        if asyncio.isfuture(future) or not callable(getattr(future, "result", None)):
            raise TypeError(
                "executor must hand back futures that a thread can wait for (PEP 3148); got "
                f"{future!r}"
            )
        return future

    def _finished(self, running: set[Any], ended: SimpleQueue[Any]) -> Any:
        """One that has ended: those that cannot tell are waited for one by one."""
        if self.dask:
            import distributed

            done: Any = distributed.wait(list(running), return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
            return next(iter(done.done))
        some = next(iter(running))
        if hasattr(some, "add_done_callback"):
            return ended.get()
        return next((f for f in running if getattr(f, "done", bool)()), some)

    def _cancel(self, futures: set[Any]) -> set[Any]:
        """Cancel what can be, and return the rest; no error here hides why."""
        begun = set(futures)
        if self.dask:
            with contextlib.suppress(Exception):
                self.executor.cancel(list(futures))
            return begun
        for future in futures:
            with contextlib.suppress(Exception):  # those of parsl, for one, cannot be cancelled
                if future.cancel():
                    begun.discard(future)
        return begun


def _put(ended: SimpleQueue[Any], future: Any, *_: object) -> None:
    ended.put(future)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say what has happened where an executor says little."""
    try:
        yield
    except (CancelledError, asyncio.CancelledError) as error:
        raise RuntimeError(
            "executor must not cancel what it was given; it did (was it shut down, or did its "
            "scheduler end?)"
        ) from error
    except BrokenExecutor as error:
        error.add_note(
            "srfx.scan: the pool lost a worker: it was killed (memory?), or could not start (a "
            "script needs `if __name__ == '__main__'`) or load what it was sent"
        )
        raise
