"""Whatever runs blocks elsewhere: PEP 3148 executors and dask clients behind one small face."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from srfx import _validation as check

#: Blocks handed out for each worker: one it works on and one that waits.
IN_FLIGHT = 2


def is_dask(executor: object) -> bool:
    """Whether it is a dask client; dask is not imported to find out."""
    return check.of_loaded(executor, "distributed", "Client")


def check_executor(executor: object) -> None:
    """Refuse what cannot run blocks, and pools that fork."""
    if executor is None:
        return
    if is_dask(executor):
        if getattr(executor, "asynchronous", False):
            raise TypeError("executor must be a synchronous dask client; got an asynchronous one")
        return
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be None, have a method submit (PEP 3148) or be a dask Client; "
            f"got {executor!r}"
        )
    context: Any = getattr(executor, "_mp_context", None)
    method = context.get_start_method() if hasattr(context, "get_start_method") else None
    if method == "fork":
        raise ValueError(
            "executor must not fork its workers (threads do not survive it); got a pool that does: "
            "use ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))"
        )


def check_portable(executor: object, model: Any) -> None:
    """Refuse a model that cannot go to another process."""
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        return
    if is_dask(executor) or type(executor).__module__.startswith("loky"):
        return  # these take functions by value
    try:
        pickle.dumps(model)
    except Exception as error:
        raise ValueError(
            "model must be picklable to go to other processes: its callables must be functions of "
            f"an importable module, no lambdas; got {model!r} ({error})"
        ) from None


class Pool:
    """Runs tasks, a few in flight for each worker, and gives results as they come.

    Parameters
    ----------
    executor : Executor or dask Client
        Not closed here.
    stop : callable
        Called before unfinished tasks are abandoned: makes those in threads of this process end.
    """

    def __init__(self, executor: Any, stop: Callable[[], None]) -> None:
        self.executor = executor
        self.stop = stop
        self.dask = is_dask(executor)
        self.same_process = isinstance(executor, ThreadPoolExecutor)

    def workers(self) -> int:
        """How many tasks run at once."""
        if self.dask:
            threads: dict[str, int] = self.executor.nthreads()
            return max(1, sum(threads.values()))
        for name in ("_max_workers", "num_workers"):
            count = getattr(self.executor, name, None)
            if isinstance(count, int) and count > 0:
                return count
        return os.cpu_count() or 1

    def run(self, work: Callable[[Any], Any], tasks: Iterable[Any]) -> Generator[Any, None, None]:
        """Yield what ``work`` returns for each task, in the order in which they end."""
        waiting = iter(tasks)
        running: set[Any] = set()
        try:
            while True:
                for _ in range(IN_FLIGHT * self.workers() - len(running)):
                    task = next(waiting, None)
                    if task is None:
                        break
                    running.add(self._submit(work, task))
                if not running:
                    return
                for future in self._finished(running):
                    running.discard(future)
                    yield future.result()
        finally:
            self._abandon(running)

    def _submit(self, work: Callable[[Any], Any], task: Any) -> Any:
        if self.dask:
            return self.executor.submit(work, task, pure=False)
        return self.executor.submit(work, task)

    def _finished(self, running: set[Any]) -> set[Any]:
        if self.dask:
            import distributed

            done: Any = distributed.wait(list(running), return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
            return set(done.done)
        from concurrent.futures import FIRST_COMPLETED, Future
        from concurrent.futures import wait as wait_for

        if all(isinstance(future, Future) for future in running):
            return set(wait_for(running, return_when=FIRST_COMPLETED).done)
        return {next((f for f in running if f.done()), next(iter(running)))}

    def _abandon(self, running: set[Any]) -> None:
        if not running:
            return
        self.stop()
        if self.dask:
            self.executor.cancel(list(running))
            return
        for future in running:
            future.cancel()
        if self.same_process:  # they stop at the next piece: nobody writes after this
            from concurrent.futures import wait as wait_for

            wait_for(running)
