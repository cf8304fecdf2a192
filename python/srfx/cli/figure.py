"""``srfx figure``: the figures of the paper, to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from srfx.cli.options import INTEGER, LOCAL, options
from srfx.cli.output import say


@click.command("figure")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option(
    "-o",
    "--output",
    type=LOCAL,
    default="figures",
    show_default=True,
    metavar="FOLDER",
    help="Where to write pictures, data and provenance; made if missing.",
)
@click.option("--quick", is_flag=True, help="Simulate at d = 500, in under a minute a figure.")
@click.option(
    "--format",
    "formats",
    default="png",
    show_default=True,
    metavar="LIST",
    help="png, pdf, svg, or several: png,pdf.",
)
@click.option(
    "--store",
    type=LOCAL,
    metavar="FOLDER",
    help="Keeps finished simulations.  [default: FOLDER/simulations; none with --quick]",
)
@click.option("--d", type=INTEGER, help="Dimension of the simulated networks.")
@click.option("--replicates", type=INTEGER, help="How many of them; at least 2 for error bars.")
@click.option("--seed", type=INTEGER, help="Of their random numbers.")
@options("n_threads progress")
def command(names: tuple[str, ...], output: Path, formats: str, **settings: Any) -> None:
    """Make figures: theory as lines, simulations as points with error bars.

    NAME is one of those below, or all. Each figure is written with its data (NetCDF) and its
    parameters and provenance (JSON). Other parameters than those of --d, --replicates and
    --seed are arguments of srfx.figures.make.

    \b
    srfx figure all --quick -o figures/
    srfx figure 2 --replicates 20 -o figures/
    """  # noqa: D301  # click's mark, not an escape
    from srfx import figures

    if not names:
        raise click.UsageError(f"name a figure: {', '.join(figures.NAMES)} or all")
    for name in ("d", "replicates", "seed"):
        if settings[name] is None:
            del settings[name]
    asked = [part.strip() for part in formats.split(",")]
    figures.make(names, output, formats=asked, say=say, **settings)
