"""Scans in files: opening a store or a NetCDF file, writing NetCDF and Parquet."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srfx import _files
from srfx import _validation as check
from srfx.scans import store
from srfx.scans.blocks import pieces
from srfx.scans.cost import filled

if TYPE_CHECKING:
    import xarray as xr

#: Attributes that are lists, of one number or name often: NetCDF makes a single one of that.
_LISTS = (
    "readout",
    "weights",
    "spikes",
    "alignment",
    "variances",
    "group_sizes",
    "srfx_dims",
)


@check.public
def open_scan(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a stored scan, or a NetCDF file that srfx wrote; values are read when used.

    Parameters
    ----------
    path : path
        What was ``out`` of `scan`, or a file (.nc) of `export` or of the program.
        ``xarray.open_zarr`` and ``xarray.open_dataset`` open them too; but NetCDF knows no list of
        one, so that there the attribute ``readout`` of ``[1.0]`` comes back as ``1.0``. Here it is
        the list that it was.

    Returns
    -------
    xarray.Dataset
        As `scan` returns it. Blocks that are not computed yet hold NaN, with status -1.

    Raises
    ------
    TypeError, ValueError
        There is no such store or file, or ``path`` is a URL.
    ImportError
        zarr is not installed.

    Examples
    --------
    >>> import srfx, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ds = srfx.scan(srfx.SpikedRF(), folder + "/scan.zarr", alpha=[1, 2], lam=[0.1, 1])
    ...     print(f"{srfx.scans.open_scan(folder + '/scan.zarr').test_error[1, 0].item():.6f}")
    0.033018
    """
    import xarray as xr

    path = _files.local("path", path)
    if path.suffix.lower() == ".nc" and path.is_file():
        with NETCDF:
            ds: xr.Dataset = xr.open_dataset(path)
        ds.attrs = {name: _as_given(str(name), value) for name, value in ds.attrs.items()}
        return ds

    store.require_zarr()
    if not (path / "zarr.json").is_file():
        raise ValueError(f"path must be a store of srfx.scan; there is none at {str(path)!r}")
    if sys.flags.optimize and "_srfx" in store.shown_to_readers(path):
        raise ValueError(
            f"path must be a store of this version of srfx under python -O; {str(path)!r} is of an "
            "earlier one, which zarr reads without -O alone: go on with it once, by srfx.scan"
        )
    ds = xr.open_zarr(path, chunks=None)
    for name, item in ds.coords.items():
        if item.dtype.kind in "OT":  # of any width in the store; as it was given, and is in memory
            ds = ds.assign_coords({name: item.astype(object).astype(str)})
            ds[name].attrs.pop(store.LABELS, None)
    return ds


def _as_given(name: str, value: Any) -> Any:
    """Return an attribute of a NetCDF file as srfx had it: a list or a plain number."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return [value] if name in _LISTS and not isinstance(value, list) else value


@check.public
def export(source: xr.Dataset | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a scan to one file: NetCDF (.nc), or a long table in Parquet (.parquet).

    Parameters
    ----------
    source : xarray.Dataset or path
        What `scan` returned, or a store. It is read and written part by part.
    path : path
        The file; an existing one is replaced once the new one is complete. Parquet needs pyarrow.
        `open_scan` reads NetCDF files with their attributes as they were.

    Raises
    ------
    TypeError, ValueError
        ``source`` is neither, the suffix is another, or a path is a URL.
    OSError
        The file cannot be written; before anything is read.
    ImportError
        pyarrow is not installed.

    Examples
    --------
    >>> import srfx, tempfile, xarray
    >>> ds = srfx.scan(srfx.SpikedRF(), alpha=[1, 2], lam=[0.1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     srfx.scans.export(ds, folder + "/scan.nc")
    ...     print(dict(xarray.load_dataset(folder + "/scan.nc").sizes))
    {'alpha': 2, 'lam': 2}
    """
    import xarray as xr

    target = _files.local("path", path)
    suffix = check.one_of("the suffix of path", target.suffix.lower(), (".nc", ".parquet"))
    if isinstance(source, (str, os.PathLike)):
        ds = open_scan(source)
    elif isinstance(source, xr.Dataset):
        ds = source
    else:
        raise TypeError(f"source must be a Dataset or the path of a store; got {source!r}")

    def write(part: Path) -> None:
        if suffix == ".nc":
            with NETCDF:
                _to_netcdf(ds, part)
        else:
            _to_parquet(ds, part)

    _files.check("path", target)
    _files.write(target, write)


#: Threads of srfx take turns at netCDF files: the library is made for one thread, and xarray's own
#: locks leave out what it does at opening a file.
NETCDF = threading.RLock()

_EXPORT_POINTS = 2**20


def _parts(ds: xr.Dataset) -> Iterator[dict[str, slice]]:
    """Boxes of at most a million points, in C order."""
    sizes = {str(dim): size for dim, size in ds.sizes.items()}
    lengths = filled(list(sizes), sizes, lambda box: math.prod(box.values()) <= _EXPORT_POINTS)
    for place in pieces(tuple(sizes.values()), tuple(lengths.values())):
        yield dict(zip(lengths, place, strict=True))


def _to_netcdf(ds: xr.Dataset, path: Path) -> None:
    import netCDF4

    names = [str(name) for name in ds.data_vars]
    times = {name: item for name, item in ds.coords.items() if item.dtype.kind in "mM"}
    plain = {name: (item.dims, *store.plain(item.values)) for name, item in times.items()}
    ds.drop_vars(names).assign_coords(plain).to_netcdf(path)
    with netCDF4.Dataset(path, "a") as file:
        others = " ".join(sorted(str(c) for c in ds.coords if c not in ds.sizes))
        for dim, size in ds.sizes.items():
            if dim not in file.dimensions:
                file.createDimension(str(dim), size)
        for name in names:
            values = ds[name]
            fill = np.nan if values.dtype.kind == "f" else None
            variable = file.createVariable(
                name, values.dtype.str[1:], tuple(map(str, values.dims)), fill_value=fill
            )
            variable.setncatts(
                {
                    k: np.asarray(v, values.dtype if k == "flag_values" else None)
                    if isinstance(v, list)
                    else v
                    for k, v in values.attrs.items()
                }
            )
            if others:
                variable.coordinates = others
            for part in _parts(ds):
                box = {dim: part[str(dim)] for dim in values.dims}
                variable[tuple(box.values()) or ...] = values.isel(box).values


def _to_parquet(ds: xr.Dataset, path: Path) -> None:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("export to Parquet needs pyarrow: pip install pyarrow") from error

    names = [str(name) for name in (*ds.coords, *ds.data_vars)]
    about = {str(k): str(v) for k, v in ds.attrs.items()}
    for item in ds.data_vars.values():  # of columns most readers show no attributes
        about |= {
            k: str(item.attrs[k]) for k in ("flag_values", "flag_meanings") if k in item.attrs
        }
    writer = None
    try:
        for part in _parts(ds):
            some = ds.isel(part).load()
            like = {str(d): some.sizes[d] for d in some.sizes}
            columns = {}
            for name in names:
                item = some[name].transpose(*(d for d in like if d in some[name].dims))
                along = [like[d] if d in item.dims else 1 for d in like]
                values = np.broadcast_to(item.values.reshape(along), tuple(like.values()))
                columns[name] = values.ravel()
            table = pa.table(columns).replace_schema_metadata(about)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
