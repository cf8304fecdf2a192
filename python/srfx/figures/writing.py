"""Figures as files: the picture, its data, its provenance."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from srfx import _files
from srfx import _validation as check
from srfx._style import require_matplotlib, style
from srfx.config import show_config
from srfx.figures.catalogue import RECIPES, compute, draw, known
from srfx.figures.parameters import checked, having
from srfx.scans.formats import NETCDF
from srfx.scans.store import require_zarr

FORMATS = ("png", "pdf", "svg")

#: What makes pictures of two days the same.
_UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


@check.public
def make(
    names: str | int | Iterable[str | int],
    folder: str | os.PathLike[str] = "figures",
    *,
    quick: bool = False,
    formats: str | Sequence[str] = ("png",),
    store: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    n_threads: int | None = None,
    **parameters: Any,
) -> list[Path]:
    """Compute, draw and write figures, each with its data and its provenance.

    Parameters
    ----------
    names : str, int or iterable of them
        Of `NAMES`, or "all"; the paper's figures may be numbers.
    folder : path
        Where to write ``figure-NAME.png`` (or ``.pdf``, ``.svg``), ``figure-NAME.nc`` and
        ``figure-NAME.json``; made if missing.
    quick : bool
        As in `compute`.
    formats : {"png", "pdf", "svg"} or sequence of them
        Of the pictures.
    store : path, optional
        Where finished simulations are kept, so that an interrupted run is resumed (needs
        ``srfx[scan]``); by default ``simulations`` in ``folder``, and none with ``quick``.
    progress, say, n_threads
        As in `compute`; ``say`` also hears of each file.
    **parameters
        Parameters of the figures, in place of their defaults, as in `compute`. Of several figures
        only those that all of them have, as ``d``, ``replicates`` and ``seed`` of 1, 2, 4 and 5.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    ValueError, TypeError
        An unknown figure or format, or a parameter that is out of range, of the wrong type, or not
        one of every figure asked for: before any work.
    OSError
        The folder cannot be written, before any work.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import srfx, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in srfx.figures.make(3, folder, r=1.2)]
    ['figure-3.png']
    """
    wanted = _wanted(names)
    formats = _suffixes(formats)
    _check_common(wanted, parameters)
    for name in wanted:
        checked(RECIPES, name, quick, parameters)
    if n_threads is not None:
        check.thread_count(n_threads)
    require_matplotlib("figures need matplotlib")
    out = _files.local("folder", folder)
    keep = None if quick else out / "simulations"
    if store is not None:
        keep = _files.local("store", store)
    _files.check_folder("output folder", out)
    for name in wanted:
        for suffix in (*formats, "nc", "json"):
            _files.check("the output folder's files", out / f"figure-{name}.{suffix}")
    if keep is not None and any(RECIPES[name].keeps for name in wanted):
        require_zarr()
        _files.check_folder("store", keep)
    pictures = []
    for name in wanted:

        def tell(text: str, name: str = name) -> None:
            if say is not None:
                say(f"figure {name}: {text}")

        ds = compute(
            name,
            quick=quick,
            store=keep,
            progress=progress,
            say=tell,
            n_threads=n_threads,
            **parameters,
        )
        files = _write(ds, out / f"figure-{name}", formats)
        tell(f"wrote {', '.join(map(_files.shown, files))}, and its .nc and .json")
        pictures += files
    return pictures


def _write(ds: xr.Dataset, stem: Path, formats: Iterable[str]) -> list[Path]:
    """Write a figure with its data and provenance, and return the pictures."""
    figure = draw(ds)
    files = [stem.with_suffix(f".{suffix}") for suffix in formats]
    with style():
        for path in files:
            undated = _UNDATED.get(path.suffix[1:])
            _files.write(path, lambda part: figure.savefig(part, metadata=undated))  # noqa: B023
    with NETCDF:
        _files.write(stem.with_suffix(".nc"), ds.to_netcdf)
    record = json.dumps(_provenance(ds, [path.name for path in files]), indent=2)
    _files.write_text(stem.with_suffix(".json"), lambda file: file.write(f"{record}\n"))
    return files


def _wanted(names: Any) -> list[str]:
    if isinstance(names, (str, int)):
        names = [names]
    if not isinstance(names, Iterable):
        raise TypeError(f"names must hold some of {', '.join(RECIPES)} or all; got {names!r}")
    out: list[str] = []
    for name in names:
        out += list(RECIPES) if isinstance(name, str) and name == "all" else [known(name)]
    if not out:
        raise ValueError(f"names must hold at least one of {', '.join(RECIPES)} or all; got none")
    return list(dict.fromkeys(out))


def _suffixes(formats: Any) -> tuple[str, ...]:
    if isinstance(formats, str) or not isinstance(formats, Iterable):
        formats = [formats]
    out = tuple(dict.fromkeys(check.one_of("formats", suffix, FORMATS) for suffix in formats))
    if not out:
        raise ValueError(f"formats must hold at least one of {', '.join(FORMATS)}; got {formats!r}")
    return out


def _check_common(wanted: list[str], parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter that only some of several figures have."""
    for key in parameters:
        owners = having(RECIPES, key)
        lacking = [name for name in wanted if name not in owners]
        if lacking and len(wanted) > 1:
            others = f"those that do: {', '.join(owners)}" if owners else "no figure does"
            raise ValueError(
                f"{key} must be a parameter of every figure asked for; {', '.join(lacking)} "
                f"{'has' if len(lacking) == 1 else 'have'} none of that name ({others})"
            )


def _provenance(ds: xr.Dataset, files: list[str]) -> dict[str, Any]:
    config = show_config("dicts")
    assert config is not None
    commit = ds.attrs.get("srfx_commit")
    return {
        "figure": ds.attrs["figure"],
        "title": ds.attrs["title"],
        "quick": bool(ds.attrs["quick"]),
        "parameters": json.loads(ds.attrs["parameters"]),
        "files": files,
        "data": f"figure-{ds.attrs['figure']}.nc",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(float(ds.attrs["seconds"]), 2),
        "srfx": config["version"],
        **({} if commit is None else {"commit": commit}),
        "build": {key: config[key] for key in ("compiler", "flags", "instruction_set", "eigen")},
        **{key: config[key] for key in ("python", "numpy", "platform")},
    }
