"""``srfx merge``: the stores of the shards of a scan as one."""

from __future__ import annotations

from pathlib import Path

import click

from srfx import _files, scans
from srfx.cli.options import LOCAL, Local
from srfx.cli.output import say, say_failures


@click.command("merge")
@click.argument("stores", type=Local(exists=True), nargs=-1, required=True)
@click.option("-o", "--output", type=LOCAL, metavar="STORE", required=True, help="The new store.")
def command(stores: tuple[Path, ...], output: Path) -> None:
    """Put the stores of all shards of a scan together."""
    ds = scans.merge(stores, output)
    say(f"wrote {_files.shown(output)} ({len(stores)} shards)")
    failed = ds.attrs.get("failed_points", 0)
    say_failures(failed, "points did not converge (nan, with status)")
