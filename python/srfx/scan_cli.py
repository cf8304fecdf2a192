"""The commands ``srfx scan``, ``plot`` and ``export``: scans from a file, their pictures."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from srfx import _executors, _files, scans
from srfx import _validation as check
from srfx._plan import Plan, make_plan, solve_box
from srfx.models import OneStep, SpikedRF

if TYPE_CHECKING:
    import xarray as xr

_SPEC = """Run the scan of a specification file.

\b
  [model]
  type = "OneStep"              # or "SpikedRF"
  activation = "tanh"           # and target, eta, alpha0, beta, noise, readout, ...
  [axes]
  eta = [1, 3]                  # a list,
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

An interrupted scan goes on with --resume. Exit codes as of `srfx solve`; 130 if interrupted.
"""
_TABLES = ("model", "axes", "simulate", "output")
_OUTPUT = ("path", "variables", "bulk", "block_points", "max_in_flight")
_GRID = ("start", "stop", "count", "scale")
_MODELS: dict[str, type[SpikedRF] | type[OneStep]] = {"SpikedRF": SpikedRF, "OneStep": OneStep}


def register(group: click.Group) -> None:
    """Add ``scan``, ``plot`` and ``export`` to the command line.

    Parameters
    ----------
    group : click.Group
        The group of `srfx.cli`.
    """
    from srfx import cli as house

    existing = house._Local(exists=True)

    @group.command("scan", help=_SPEC)
    @click.argument("spec", type=house._Local(exists=True, dir_okay=False))
    @click.option("-o", "--output", type=house.LOCAL, metavar="STORE", help="The zarr store.")
    @click.option("--resume", is_flag=True, help="Go on with an existing store.")
    @click.option("--dask", metavar="ADDRESS", help="Run on the dask cluster of that scheduler.")
    @click.option("--n-threads", type=house.INTEGER, help="Threads; with --dask, for each block.")
    @click.option(
        "--max-in-flight", type=house.INTEGER, help="Blocks that the cluster is given at a time."
    )
    @click.option("--dry-run", is_flag=True, help="Print points, blocks, time and size; stop.")
    @click.option("--progress/--no-progress", default=True, help="[default: progress]")
    def scan_command(**options: Any) -> None:
        _scan(**options)

    @group.command("plot")
    @click.argument("store", type=existing)
    @click.option("--x", help="Parameter along x.  [default: the last that varies]")
    @click.option("--y", help="Parameter along y: a plane is drawn. Without: curves.")
    @click.option("--variable", default="test_error", show_default=True, help="What is drawn.")
    @click.option(
        "--kind",
        type=click.Choice(["heatmap", "contours", "curves"]),
        help="[default: heatmap with --y, else curves]",
    )
    @click.option(
        "--at",
        "selections",
        multiple=True,
        metavar="NAME=VALUE",
        help="Keep the nearest value of another parameter, or a label; may be repeated.",
    )
    @click.option(
        "-o",
        "--output",
        type=house.LOCAL,
        metavar="FILE",
        help="The picture.  [default: STORE.png]",
    )
    def plot_command(**options: Any) -> None:
        """Draw a stored scan (or a NetCDF file): a heat map, contour lines or curves.

        \b
        srfx plot scan.zarr --x alpha --y lam --at eta=3
        """  # noqa: D301  # click's mark, not an escape
        _plot(**options)

    @group.command("export")
    @click.argument("store", type=existing)
    @click.argument("file", type=house.LOCAL)
    def export_command(store: Path, file: Path) -> None:
        """Write a stored scan to one file: NetCDF (.nc) or Parquet (.parquet)."""
        scans.export(store, file)
        house._say(f"wrote {_files.shown(file)}")


# --- srfx scan ---


def _scan(
    spec: Path,
    output: Path | None,
    resume: bool,
    dask: str | None,
    n_threads: int | None,
    max_in_flight: int | None,
    dry_run: bool,
    progress: bool,
) -> None:
    from srfx import cli as house

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
        click.echo(_estimates(plan, threads))
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
            model, out, client, progress=progress, n_threads=n_threads, **arguments, **axes
        )
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt, "__notes__", ()):
            house._say(note.removeprefix("srfx.scan: ").split(";")[0])
        command = ["srfx", "scan", _files.shown(spec), "-o", _files.shown(out), "--resume"]
        command += ["--dask", dask] if dask else []
        command += ["--n-threads", str(n_threads)] if n_threads else []
        command += ["--max-in-flight", str(max_in_flight)] if max_in_flight else []
        house._say(f"go on with: {shlex.join(command)}")
        raise
    except OSError as error:
        for note in getattr(error, "__notes__", ()):
            house._say(note.removeprefix("srfx.scan: ").split(";")[0])
        raise
    finally:
        if client is not None:
            client.close()
    points = math.prod(ds.sizes.values())
    house._say(f"wrote {_files.shown(out)} ({points} points)")
    failed = ds.attrs.get("failed_points", 0)
    if failed:
        house._say(f"warning: {failed} of {points} points did not converge (nan, with status)")


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise click.UsageError("--dask needs dask: pip install 'srfx[dask]'") from None
    try:
        return Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--dask: no scheduler at {address!r} ({error})") from None


def read_specification(path: Path) -> dict[str, Any]:
    """Read a specification file: the arguments of `scan` with ``axes`` as one of them.

    Parameters
    ----------
    path : Path
        A TOML file.

    Raises
    ------
    ValueError
        It is no TOML, or a table or key is unknown (the nearest known one is named) or missing.
    """
    tables = _read_toml(path)
    for name, table in tables.items():
        check.one_of("a table", name, _TABLES)
        if not isinstance(table, dict):
            raise ValueError(f"{name} must be a table, [{name}]; got {table!r}")
    for name in ("model", "axes"):
        if name not in tables:
            raise ValueError(f"the table [{name}] is missing in {str(path)!r}")
    output = tables.get("output", {})
    try:
        model = _model(tables["model"])
        arguments: dict[str, Any] = {"model": model, "axes": _axes(tables["axes"], model)}
        if "path" in output:
            arguments["out"] = _files.local("path in [output]", output["path"])
    except TypeError as error:  # in a file, a wrong type is a wrong value
        raise ValueError(str(error)) from None
    if "simulate" in tables:
        arguments["simulate"] = tables["simulate"]
    for key in output:
        check.one_of("a key of [output]", key, _OUTPUT)
    arguments |= {key: output[key] for key in _OUTPUT if key != "path" and key in output}
    return arguments


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    data = path.read_bytes()
    if b"\0" in data:  # no text in UTF-8 has it, and most letters of UTF-16 do
        raise ValueError(
            f"{str(path)!r} must be text in UTF-8; it looks like UTF-16 or like no text"
        )
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also digits without end, and brackets
        raise ValueError(f"{str(path)!r} is not valid TOML: {error}") from None


def _model(table: dict[str, Any]) -> SpikedRF | OneStep:
    fields = dict(table)
    if "type" not in fields:
        raise ValueError('type is missing in [model]: give "OneStep" or "SpikedRF"')
    kind = _MODELS[check.one_of("type in [model]", fields.pop("type"), tuple(_MODELS))]
    known = ("activation", "target", *kind._numeric_names, "readout", "weights")
    for key in fields:
        check.one_of("a key of [model]", key, ("type", *known))
        if key in kind._numeric_names and isinstance(fields[key], (list, str, dict)):
            raise ValueError(
                f"{key} in [model] must be a number; got {fields[key]!r}: grids go to [axes]"
            )
    return kind(**fields)


def _axes(table: dict[str, Any], model: SpikedRF | OneStep) -> dict[str, Any]:
    known = ("alpha", "lam", "d", *model._numeric_names)
    axes = {}
    for name, value in table.items():
        check.one_of("a key of [axes]", name, (*known, "pairs"))
        if name != "pairs":
            axes[name] = _grid(name, value)
    groups = _groups(table.get("pairs", []))
    listed = [name for group in groups for name in group]
    for name in listed:
        if listed.count(name) > 1:
            raise ValueError(f"pairs in [axes] must name an axis once; {name!r} is there twice")
    for group in groups:
        import xarray as xr

        dim = "_".join(group)
        for name in group:
            if name not in axes:
                raise ValueError(f"pairs in [axes] names {name!r}, which is not an axis there")
            allowed = "a number, or a list or grid of them"
            values = check.number_or_array(name, axes[name], allowed, lambda x: ~np.isnan(x))
            if np.ndim(values) != 1:
                raise ValueError(
                    f"pairs in [axes] names {name!r}, which is no list or grid; got {axes[name]!r}"
                )
            axes[name] = xr.DataArray(values, dims=dim)
    return axes


def _groups(value: Any) -> list[list[str]]:
    good = isinstance(value, list) and all(
        isinstance(group, list) and len(group) > 1 and all(isinstance(n, str) for n in group)
        for group in value
    )
    if not good:
        raise ValueError(
            f'pairs in [axes] must be lists of names, [["eta", "alpha"]]; got {value!r}'
        )
    return list(value)


def _grid(name: str, value: Any) -> Any:
    """Read a number, a list, "0.2:3:50", "log:1e-4:1:30", or a table of start, stop and count."""
    from srfx import cli as house

    if isinstance(value, str):
        try:
            return house._parse_grid(value.strip())
        except ValueError as error:
            raise ValueError(f"{name} in [axes]: {value!r} {error}") from None
    if not isinstance(value, dict):
        return value
    for key in value:
        check.one_of(f"a key of {name} in [axes]", key, _GRID)
    for key in ("start", "stop", "count"):
        if key not in value:
            raise ValueError(f"{name} in [axes] lacks {key}")
        allowed = int if key == "count" else (int, float)
        if not isinstance(value[key], allowed) or isinstance(value[key], bool):
            what = "an integer" if key == "count" else "a number"
            raise ValueError(f"{key} of {name} in [axes] must be {what}; got {value[key]!r}")
    scale = check.one_of(f"scale of {name}", value.get("scale", "linear"), ("linear", "log"))
    try:
        return house._spaced(value["start"], value["stop"], value["count"], scale == "log")
    except (ValueError, OverflowError) as error:  # integers beyond float64
        raise ValueError(f"{name} in [axes]: {value!r} {error}") from None


def _estimates(plan: Plan, threads: int) -> str:
    """Tabulate what a scan would take."""
    seconds = plan.seconds() / threads
    how = "by a fixed rule"
    if plan.simulate is None:
        seconds, how = seconds * _measured(plan), "measured on a few of its points"
    shape = " x ".join(f"{dim} {size}" for dim, size in plan.dims.items())
    block = " x ".join(f"{dim} {plan.chunk[dim]}" for dim in plan.dims)
    lines = {
        "points": f"{plan.points} ({shape or 'one'})",
        "blocks": f"{plan.blocks}" + (f" (of {block})" if block else ""),
        "time": f"about {_time(seconds)} on {threads} thread{'s' * (threads > 1)} ({how})",
        "size": _size(plan.bytes),
    }
    return "\n".join(f"{name:<8}{text}" for name, text in lines.items())


def _measured(plan: Plan) -> float:
    """Seconds that a few points take over those of the fixed rule."""
    lengths: dict[str, int] = dict.fromkeys(plan.order, 1)
    for dim in reversed(plan.order):  # the middle of a block, as much as takes some 50 ms
        rest = plan.seconds(lengths)
        lengths[dim] = max(1, min(plan.chunk[dim], int(0.05 / rest)))
    values = {}
    for name, item in plan.inputs.items():
        values[name] = item.values
        if item.dim is not None:
            low = (plan.dims[item.dim] - lengths[item.dim]) // 2
            along = [1] * len(plan.order)
            along[plan.order.index(item.dim)] = lengths[item.dim]
            values[name] = item.values[low : low + lengths[item.dim]].reshape(along)
    solve_box(plan.model, values, plan.bulk, threads=1)  # warm up
    start = time.thread_time()  # whatever else the machine does
    solve_box(plan.model, values, plan.bulk, threads=1)
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


# --- srfx plot ---


def _plot(
    store: Path,
    x: str | None,
    y: str | None,
    variable: str,
    kind: str | None,
    selections: tuple[str, ...],
    output: Path | None,
) -> None:
    from srfx import cli as house

    if output is None:
        ending = store.suffix if store.suffix in (".zarr", ".nc") else ""
        output = store.with_name(store.name.removesuffix(ending) + ".png")
    house._check_plot(output)
    from matplotlib.figure import Figure

    from srfx import plotting

    ds = _select(_open(store), selections)
    kind = kind or ("curves" if y is None else "heatmap")
    if kind == "curves" and y is not None:
        raise click.UsageError("--kind curves takes no --y")
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    ax = figure.add_subplot()
    if kind == "curves":
        plotting.curves(ds, x, variable, ax=ax)
    else:
        draw = plotting.heatmap if kind == "heatmap" else plotting.contours
        draw(ds, x, y, variable, ax=ax)
    house.save(figure, output)


def _open(store: Path) -> xr.Dataset:
    if store.is_dir() or store.suffix.lower() == ".nc":
        return scans.open_scan(store)
    raise click.UsageError(
        f"STORE must be a store of `srfx scan` or a .nc file; got {str(store)!r}"
    )


def _select(ds: xr.Dataset, selections: tuple[str, ...]) -> xr.Dataset:
    for selection in selections:
        name, equals, text = selection.partition("=")
        varying = [str(c) for c in ds.coords if ds[c].ndim == 1]
        if not equals or name not in varying:
            raise click.UsageError(
                f"--at must be NAME=VALUE with a NAME of {', '.join(varying)}; got {selection!r}"
            )
        try:
            place = _place(ds[name].values, text)
        except ValueError as error:
            raise click.UsageError(f"--at {selection!r}: {error}") from None
        ds = ds.isel({str(ds[name].dims[0]): place})
    return ds


def _place(values: NDArray[Any], text: str) -> int:
    """Find the nearest number, or the very label."""
    if values.dtype.kind in "iuf":
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        same = values == value  # infinities too
        away = np.where(same, 0.0, np.abs(np.where(same, 0.0, values) - value))
        if np.isfinite(away).any():
            return int(np.nanargmin(away))
    else:
        labels = np.datetime_as_string(values) if values.dtype.kind == "M" else values.astype(str)
        found = labels == text
        if values.dtype.kind == "M":  # 2024-05-01 is short for its midnight
            with contextlib.suppress(ValueError):
                found = values == np.datetime64(text)
        if found.any():
            return int(found.argmax())
    some = ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")
    raise ValueError(f"no value is near {text!r}; there are {some}")
