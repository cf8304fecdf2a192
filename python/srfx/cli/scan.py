"""``srfx scan``: a scan from a file, into a store."""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path
from typing import Any

import click

from srfx import _executors, _files, scans
from srfx import _validation as check
from srfx.cli.options import INTEGER, Local, options
from srfx.cli.output import say, say_failures
from srfx.cli.specification import read_specification
from srfx.scans.cost import filled
from srfx.scans.plan import Plan, check_shard, make_plan, share, solve_box, values_in

SPECIFICATION = """Run the scan of a specification file.

\b
  [model]
  type = "OneStep"              # or "MultiStep" (with eta = [2, 1] and so on) or "SpikedRF"
  activation = "tanh"           # and eta, alpha0, beta, noise, readout, spikes, ...
  target = "sin"                # or "product", "sign_product", "max" with directions = 2
  [axes]
  eta = [1, 3]                  # a list (of a MultiStep eta1, eta2, alpha0_1, ...),
  alpha = "0.2:3:50"            # a grid, or { start = 0.2, stop = 3, count = 50 },
  lam = "log:1e-4:1:30"         # a logarithmic one, or { ..., scale = "log" }
  pairs = [["eta", "alpha"]]    # optional: axes paired instead of crossed
  [simulate]                    # optional: simulations in place of theory
  d = 1000                      # and replicates, n_test, seed, dtype, literal
  [output]                      # all optional
  path = "scan.zarr"
  variables = ["test_error"]
  bulk = "isotropic"
  block_points = 100000
  max_in_flight = 64            # blocks that a cluster is given at a time

With --shard 3/16 the third of sixteen equal shares of the blocks is run, into a store
of its own; `srfx merge` puts the stores of all together. An interrupted scan goes on
with --resume. Exit codes as of `srfx solve`; 130 if interrupted.
"""


def _shard(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """Read 3/16."""
    if value is None:
        return None
    number, slash, count = value.partition("/")
    if not (slash and number.strip().isdecimal() and count.strip().isdecimal()):
        raise click.UsageError(f"--shard must be two numbers, as 3/16; got {value!r}")
    return check_shard((int(number), int(count)))


@click.command("scan", help=SPECIFICATION)
@click.argument("spec", type=Local(exists=True, dir_okay=False))
@options("output", output={"metavar": "STORE", "help": "The zarr store."})
@click.option("--resume", is_flag=True, help="Go on with an existing store.")
@click.option("--dask", metavar="ADDRESS", help="Run on the dask cluster of that scheduler.")
@options("n_threads", n_threads="Threads; with --dask, for each block.")
@click.option("--max-in-flight", type=INTEGER, help="Blocks that the cluster is given at a time.")
@click.option("--shard", metavar="I/N", callback=_shard, help="Share I of N, as 3/16, from 1 on.")
@click.option("--dry-run", is_flag=True, help="Print points, blocks, time and size; stop.")
@options("progress", progress={"default": True, "help": "[default: progress]"})
def command(
    spec: Path,
    output: Path | None,
    resume: bool,
    dask: str | None,
    n_threads: int | None,
    max_in_flight: int | None,
    shard: tuple[int, int] | None,
    dry_run: bool,
    progress: bool,
) -> None:
    """Run the scan of a specification file."""
    arguments = read_specification(spec)
    if max_in_flight is not None:
        arguments["max_in_flight"] = max_in_flight
    out = output or arguments.pop("out", None)
    arguments.pop("out", None)
    model, axes = arguments.pop("model"), arguments.pop("axes")
    if dry_run:
        _executors.in_flight(arguments.pop("max_in_flight", None))
        plan = make_plan(model, axes, **arguments)
        plan.probe()
        threads = check.thread_count(n_threads)
        click.echo(_estimates(plan, threads, shard))
        return
    if out is None:
        raise click.UsageError("give -o STORE, or path in the table [output]")
    if out.exists() and not resume and not (out.is_dir() and not any(out.iterdir())):
        raise click.UsageError(
            f"{_files.shown(out)!r} exists: go on with --resume, or give another -o"
        )
    client = None if dask is None else _client(dask)
    try:
        ds = scans.scan(
            model,
            out,
            client,
            progress=progress,
            n_threads=n_threads,
            shard=shard,
            **arguments,
            **axes,
        )
    except (KeyboardInterrupt, OSError) as error:
        for note in getattr(error, "__notes__", ()):
            say(note.removeprefix("srfx.scan: ").split(";")[0])
        if isinstance(error, KeyboardInterrupt):
            again = ["srfx", "scan", _files.shown(spec), "-o", _files.shown(out), "--resume"]
            again += ["--dask", dask] if dask else []
            again += ["--n-threads", str(n_threads)] if n_threads else []
            again += ["--shard", "{}/{}".format(*shard)] if shard else []
            again += ["--max-in-flight", str(max_in_flight)] if max_in_flight else []
            say(f"go on with: {shlex.join(again)}")
        raise
    finally:
        if client is not None:
            client.close()
    if shard is not None:
        say(f"wrote {_files.shown(out)} (shard {shard[0]} of {shard[1]})")
        return
    points = math.prod(ds.sizes.values())
    say(f"wrote {_files.shown(out)} ({points} points)")
    failed = ds.attrs.get("failed_points", 0)
    say_failures(failed, f"of {points} points did not converge (nan, with status)")


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise click.UsageError("--dask needs dask: pip install 'srfx[dask]'") from None
    try:
        return Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--dask: no scheduler at {address!r} ({error})") from None


def _estimates(plan: Plan, threads: int, shard: tuple[int, int] | None) -> str:
    """Tabulate what a scan, or a shard of it, would take."""
    mine = len(share(plan.blocks, shard))
    seconds = plan.seconds() / threads * mine / plan.blocks
    how = "by a fixed rule"
    if plan.simulate is None:
        seconds, how = seconds * _measured(plan), "measured on a few of its points"
    shape = " x ".join(f"{dim} {size}" for dim, size in plan.dims.items())
    block = " x ".join(f"{dim} {plan.chunk[dim]}" for dim in plan.dims)
    lines = {
        "points": f"{plan.points} ({shape or 'one'})",
        "blocks": f"{plan.blocks}"
        + (f" (of {block})" if block else "")
        + ("" if shard is None else f"; {mine} in shard {shard[0]} of {shard[1]}"),
        "time": f"about {_time(seconds)} on {threads} thread{'s' * (threads > 1)} ({how})",
        "size": _size(plan.bytes),
    }
    return "\n".join(f"{name:<8}{text}" for name, text in lines.items())


def _measured(plan: Plan) -> float:
    """Seconds that a few points take over those of the fixed rule."""
    # the middle of a block, as much as takes some 50 ms
    lengths = filled(plan.order, plan.chunk, lambda box: plan.seconds(box) <= 0.05)
    starts = {dim: (size - lengths[dim]) // 2 for dim, size in plan.dims.items()}
    box = {dim: slice(low, low + lengths[dim]) for dim, low in starts.items()}
    values = values_in(plan.inputs, plan.order, box)
    solve_box(plan.model, values, plan.bulk, 1, plan.loss)  # warm up
    start = time.thread_time()  # whatever else the machine does
    solve_box(plan.model, values, plan.bulk, 1, plan.loss)
    return (time.thread_time() - start) / plan.seconds(lengths)


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def _size(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
