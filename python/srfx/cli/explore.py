"""``srfx explore``: a page to play with."""

from __future__ import annotations

import click


@click.command("explore")
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface to listen on.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=2718, show_default=True, help="Port."
)
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
def command(host: str, port: int, browser: bool) -> None:
    """Play: a page with sliders that shows what the network learns.

    Needs the extra srfx[app]. Only this machine can reach it, unless --host says otherwise.
    """
    from srfx.app.serve import serve

    serve(host, port, browser=browser)
