"""Serving the page of ``srfx explore``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any

from srfx.app.picture import Picture
from srfx.app.view import View


def serve(host: str = "127.0.0.1", port: int = 2718, *, browser: bool = True) -> None:
    """Serve the page until interrupted.

    Parameters
    ----------
    host : str
        Interface; only this machine can reach the default.
    port : int
        Port, 1 to 65535.
    browser : bool
        Whether to open the page in a browser.

    Raises
    ------
    ImportError
        The extra ``app`` is not installed.
    OSError
        The port is in use, or the host is not an address of this machine.
    """
    try:
        import marimo
        import matplotlib  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ImportError(
            "srfx explore needs marimo and matplotlib: pip install 'srfx[app]'"
        ) from error
    check_port(host, port)
    page = Path(__file__).with_name("page.py")
    server = marimo.create_asgi_app(quiet=True, include_code=False)
    application: Any = server.with_app(path="", root=str(page)).build()
    url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
    print(f"srfx: explore at {url} (Ctrl-C ends)", flush=True)
    # What the first view needs is loaded while the browser starts.
    threading.Thread(target=_first_view, daemon=True).start()
    if browser:
        threading.Timer(1.0, webbrowser.open, [url]).start()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            application, host=host, port=port, log_level="error", timeout_graceful_shutdown=1
        )
    # Threads of sessions that are still open would hold up the end of the process.
    sys.stdout.flush()
    os._exit(0)


def _first_view() -> None:
    Picture().png(View().compute())


def check_port(host: str, port: int) -> None:
    """Say plainly that a port cannot be had, before anything is started.

    Parameters
    ----------
    host : str
        Interface.
    port : int
        Port.

    Raises
    ------
    OSError
        It is in use, or not ours to take; or the host is not an address of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(
            f"host {host!r} is not an address of this machine ({error.strerror or error}): give "
            "127.0.0.1, or 0.0.0.0 for all interfaces"
        ) from None
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise OSError(
                f"host {host!r} is not an address of this machine: give 127.0.0.1, or 0.0.0.0 for "
                "all interfaces"
            ) from None
        raise OSError(
            f"port {port} of {host} is in use or not available ({error.strerror or error}): "
            f"give another one, as in srfx explore --port {port % 65535 + 1}"
        ) from None
