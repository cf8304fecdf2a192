"""``srfx export``: a stored scan as one file."""

from __future__ import annotations

from pathlib import Path

import click

from srfx import _files, scans
from srfx.cli.options import LOCAL, Local
from srfx.cli.output import say


@click.command("export")
@click.argument("store", type=Local(exists=True))
@click.argument("file", type=LOCAL)
def command(store: Path, file: Path) -> None:
    """Write a stored scan to one file: NetCDF (.nc) or Parquet (.parquet)."""
    scans.export(store, file)
    say(f"wrote {_files.shown(file)}")
