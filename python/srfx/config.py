"""How this copy of srfx was built and what it runs on."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from srfx import _core
from srfx._validation import one_of, thread_count


def version() -> str:
    """Version of the package, as compiled in."""
    return str(_core.build_config()["version"])


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print, or return, how srfx was built: worth pasting into a bug report.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print the configuration, or return it.

    Returns
    -------
    dict or None
        With ``mode="dicts"``: version, compiler, flags, build_type, instruction_set, eigen, openmp
        (None if built without), threads (what ``n_threads=None`` means in this process), python,
        numpy, platform.

    Raises
    ------
    ValueError
        An unknown mode.

    Examples
    --------
    >>> import srfx
    >>> srfx.show_config(mode="dicts")["version"] == srfx.__version__
    True
    """
    one_of("mode", mode, ("stdout", "dicts"))
    config: dict[str, Any] = dict(_core.build_config())
    config["threads"] = 1 if config["openmp"] is None else thread_count(None)
    config["python"] = platform.python_version()
    config["numpy"] = np.__version__
    config["platform"] = platform.platform()
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for key, value in config.items():
        print(f"{key:<{width}}  {'none' if value is None else value}")
    return None
