"""How far a scan is."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """A bar on a terminal; elsewhere a line for each per cent; or nothing."""

    def __init__(self, points: int, done: int, progress: bool | None) -> None:
        self._total, self._done, self._first = points, done, done
        self._said = 100 * done // max(1, points)
        self._start = time.monotonic()
        self._bar: Any = None
        self._line: Any = None
        terminal = sys.stderr is not None and sys.stderr.isatty()
        if progress is False:
            return
        if terminal:
            from tqdm import tqdm

            self._bar = tqdm(total=points, initial=done, desc="scan", unit="point", unit_scale=True)
        elif progress:
            self._line = lambda text: print(f"srfx: {text}", file=sys.stderr, flush=True)
        else:
            import logging

            log = logging.getLogger("srfx")
            if log.isEnabledFor(logging.INFO):
                self._line = log.info

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, points: int) -> None:
        """More points are done."""
        self._done += points
        if self._bar is not None:
            self._bar.update(points)
        percent = 100 * self._done // self._total
        if self._line is None or percent <= self._said:
            return
        self._said = percent
        spent = time.monotonic() - self._start
        rate = (self._done - self._first) / max(spent, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        self._line(
            f"scan {percent:3d} %, {self._done} of {self._total} points, {rate:.3g} points/s, "
            f"{_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
