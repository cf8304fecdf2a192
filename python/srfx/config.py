"""How this copy of srfx was built and what it runs on."""

from __future__ import annotations

import functools
import platform
from typing import Any

import numpy as np

from srfx import _core, _processor
from srfx._validation import one_of, public, thread_count


def version() -> str:
    """Version of the package, as compiled in."""
    return str(_core.build_config()["version"])


def provenance() -> dict[str, str]:
    """Where numbers come from, for the attributes of stored results."""
    import socket
    import time

    build = _core.build_config()
    parts = {key: build[key] for key in ("compiler", "build_type", "instruction_set", "eigen")}
    out = {
        "srfx_version": version(),
        "srfx_build": ", ".join(f"{key} {value}" for key, value in parts.items()),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
    }
    found = commit()
    return out if found is None else out | {"srfx_commit": found}


@functools.cache
def commit() -> str | None:
    """Commit that this copy was installed from, where its metadata or its checkout tell."""
    import importlib.metadata
    import json
    import subprocess
    from urllib.parse import unquote, urlparse

    try:
        text = importlib.metadata.distribution("srfx").read_text("direct_url.json")
        origin = json.loads(text) if text else {}
        if "vcs_info" in origin:
            return str(origin["vcs_info"]["commit_id"])
        if not origin.get("dir_info", {}).get("editable"):
            return None
        folder = unquote(urlparse(origin["url"]).path)
        git = ["git", "-C", folder, "describe", "--always", "--abbrev=40", "--dirty"]
        done = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip() or None
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError, KeyError):
        return None
    except subprocess.SubprocessError:
        return None


@public
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print, or return, how srfx was built: worth pasting into a bug report.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print the configuration, or return it.

    Returns
    -------
    dict or None
        With ``mode="dicts"``: version, compiler, flags, build_type, instruction_set (the one in
        use), eigen, openmp (None if built without), instruction_sets (those compiled, the best
        first), threads (what ``n_threads=None`` means in this process), python, numpy, platform.

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
    config["instruction_sets"] = ", ".join(_processor.lacking())
    config["threads"] = thread_count(None)
    config["python"] = platform.python_version()
    config["numpy"] = np.__version__
    config["platform"] = platform.platform()
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for key, value in config.items():
        print(f"{key:<{width}}  {'none' if value is None else value}")
    return None
