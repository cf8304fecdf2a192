"""A function of the user that tells where it runs, for tests of executors."""

import os
import threading
import time
from pathlib import Path

import numpy as np


def _at_work():
    main = threading.current_thread() is threading.main_thread()
    return str(os.getpid()) != os.environ["SRFX_TEST_CALLER"] or not main


def tanh(x):
    """Leave the process id of a worker behind."""
    if _at_work():
        Path(os.environ["SRFX_TEST_FOLDER"], f"{os.getpid()}.worker").touch()
    return np.tanh(x)


def slow(x):
    """The same, and it takes its time on a worker."""
    if _at_work():
        time.sleep(0.1)
    return tanh(x)


def failing(x):
    """Fail on a worker."""
    if _at_work():
        raise LookupError("of this function")
    return np.tanh(x)
