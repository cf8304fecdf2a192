"""The commands ``srfx figure`` and ``srfx explore``: pictures to keep, and a page to play with."""

from __future__ import annotations

from pathlib import Path

import click


def register(group: click.Group) -> None:
    """Add ``figure`` and ``explore`` to the command line.

    Parameters
    ----------
    group : click.Group
        The group of `srfx.cli`.
    """
    from srfx import cli as house

    @group.command("figure")
    @click.argument("names", nargs=-1, metavar="NAME...")
    @click.option(
        "-o",
        "--output",
        type=house.LOCAL,
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
        type=house.LOCAL,
        metavar="FOLDER",
        help="Keeps finished simulations.  [default: FOLDER/simulations; none with --quick]",
    )
    @click.option("--d", type=house.INTEGER, help="Dimension of the simulated networks.")
    @click.option(
        "--replicates", type=house.INTEGER, help="How many of them; at least 2 for error bars."
    )
    @click.option("--seed", type=house.INTEGER, help="Of their random numbers.")
    @click.option("--n-threads", type=house.INTEGER, help="Threads.  [default: all processors]")
    @click.option("--progress/--no-progress", default=None, help="[default: on a terminal]")
    def figure_command(
        names: tuple[str, ...],
        output: Path,
        quick: bool,
        formats: str,
        store: Path | None,
        d: int | None,
        replicates: int | None,
        seed: int | None,
        n_threads: int | None,
        progress: bool | None,
    ) -> None:
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
        given = {"d": d, "replicates": replicates, "seed": seed}
        figures.make(
            names,
            output,
            quick=quick,
            formats=[part.strip() for part in formats.split(",")],
            store=store,
            progress=progress,
            say=house._say,
            n_threads=n_threads,
            **{name: value for name, value in given.items() if value is not None},
        )

    @group.command("explore")
    @click.option("--host", default="127.0.0.1", show_default=True, help="Interface to listen on.")
    @click.option(
        "--port", type=click.IntRange(1, 65535), default=2718, show_default=True, help="Port."
    )
    @click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
    def explore_command(host: str, port: int, browser: bool) -> None:
        """Play: a page with sliders that shows what the network learns.

        Needs the extra srfx[app]. Only this machine can reach it, unless --host says otherwise.
        """
        from srfx import _explore

        _explore.serve(host, port, browser=browser)
