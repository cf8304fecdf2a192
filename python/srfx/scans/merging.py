"""The stores of the shards of a scan, put together."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srfx import _files
from srfx import _validation as check
from srfx.scans import store
from srfx.scans.formats import open_scan
from srfx.scans.plan import share

if TYPE_CHECKING:
    import xarray as xr

#: Attributes that may differ from shard to shard: where the numbers come from.
_ORIGIN = ("srfx_build", "host", "created")


@check.public
def merge(stores: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> xr.Dataset:
    """Put the stores of all shards of a scan together.

    The chunks are copied as they are: the store holds the bytes that the scan without shards
    would have written, and a scan goes on with it in the same way.

    Parameters
    ----------
    stores : sequence of path
        The stores of ``scan(..., shard=(i, n))`` for i = 1, ..., n, in any order, each complete.
    out : path
        A new store.

    Returns
    -------
    xarray.Dataset
        As `scan` returns it. Attributes that say where numbers come from list those of all shards.

    Raises
    ------
    TypeError, ValueError
        Shards are missing, there twice or not complete; they are of different scans (the
        difference is shown), versions, sizes of blocks or numbers of replicates; a store is no
        shard; ``out`` exists. Said before any work.
    OSError
        ``out`` cannot be written; then nothing is left of it.

    Examples
    --------
    >>> import srfx, tempfile
    >>> model, axes = srfx.SpikedRF(), dict(alpha=[1, 2], lam=[0.1, 1], block_points=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parts = [folder + "/one.zarr", folder + "/two.zarr"]
    ...     for i, part in enumerate(parts):
    ...         _ = srfx.scan(model, part, shard=(i + 1, 2), **axes)
    ...     print(f"{srfx.merge(parts, folder + '/scan.zarr').test_error[1, 0].item():.6f}")
    0.033018
    """
    given: Any = stores
    if not isinstance(given, (list, tuple)) or not given:
        raise TypeError(f"stores must be a list of paths, one a shard; got {given!r}")
    target = _files.local("out", out)
    store.require_zarr()
    shards = _in_order([_Shard(_files.local("stores", path)) for path in stores])
    for shard in shards:
        shard.check(shards[0])
    if target.exists() or target.is_symlink():
        raise ValueError(f"out must be new; {str(target)!r} exists")
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise type(error)(
            error.errno, f"out must be in a directory that can be written to ({error.strerror})",
            str(target),
        ) from error  # fmt: skip
    try:
        os.chmod(part, shards[0].path.stat().st_mode & 0o777)
        for shard in shards:
            shard.copy(part)
        store.write_root(part, _attributes(shards, part))
        os.rename(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return open_scan(target)


class _Shard:
    """A store of one shard, as `merge` sees it."""

    def __init__(self, path: Path) -> None:
        if not (path / "zarr.json").is_file():
            raise ValueError(f"stores must be those of shards; there is none at {str(path)!r}")
        self.path = path
        self.attributes = store.attributes_of("stores", path)
        self.specification = store.known("stores", path, self.attributes)
        shard = self.specification.pop(store.SHARD, None)
        if shard is None:
            raise ValueError(
                f"stores must be those of shards; {str(path)!r} is of a scan without: there is "
                "nothing to merge"
            )
        self.number, self.count = map(int, shard.split("/"))
        #: Metadata of the arrays.
        self.arrays: Mapping[str, Any] = store.shown_to_readers(path)

    @property
    def variables(self) -> list[str]:
        """Names of what has a chunk a block."""
        return list(self.specification["variables"])

    def check(self, first: _Shard) -> None:
        """Refuse a shard of another scan, or one that is not complete."""
        this, other = _files.shown(self.path), _files.shown(first.path)
        arguments = {
            name: first.values(name)
            for name, item in first.specification.items()
            if name in first.arrays and (isinstance(item, float) or "dimension" in item)
        }
        labels = {
            key: first.values(item["dimension"])
            for key, item in first.specification.items()
            if key.startswith("labels of ")
        }
        said, _ = store.differences(
            self.path, self.specification, first.specification, arguments, labels
        )
        if said:
            raise ValueError(
                f"stores must be shards of one scan; {this!r} differs from what {other!r} asks "
                f"for, in {said}"
            )
        if self.attributes[store.LAYOUT] != first.attributes[store.LAYOUT]:
            raise ValueError(
                f"stores must have blocks of one size (block_points); those of {this!r} and "
                f"{other!r} differ"
            )
        if self.count != first.count:
            raise ValueError(
                f"stores must be shards of one division; {this!r} is one of {self.count} and "
                f"{other!r} one of {first.count}"
            )
        shape, wanted = (s.arrays[s.variables[0]]["shape"] for s in (self, first))
        if shape != wanted:
            raise ValueError(
                f"stores must hold as many replicates each; {this!r} has {shape[-1]} and "
                f"{other!r} {wanted[-1]}"
            )
        blocks, done = self.done()
        mine = set(share(blocks, (self.number, self.count)))
        if done < len(mine):
            raise ValueError(
                f"stores must be complete; {this!r} has {done} of {len(mine)} blocks: "
                "go on with that shard"
            )

    def values(self, name: str) -> Any:
        """Return the values of a coordinate."""
        return np.asarray(store.open_array(self.path, name)[...])

    def done(self) -> tuple[int, int]:
        """Return the number of blocks of the scan, and of those of this shard that are there."""
        blocks = store.open_array(self.path, "_srfx/done").shape[0] // 2
        marks = self.path / "_srfx" / "done" / "c"
        marked = sum((marks / str(b)).is_file() for b in share(blocks, (self.number, self.count)))
        return blocks, min([marked, *(len(self.chunks(name)) for name in self.variables)])

    def chunks(self, name: str) -> list[Path]:
        """Files of a variable, one for each block that is there."""
        array = self.arrays[name]
        size = np.dtype(array["data_type"]).itemsize
        for length in array["chunk_grid"]["configuration"]["chunk_shape"]:
            size *= length
        files = self.path.joinpath(name, "c")
        found = [files] if files.is_file() else [f for f in files.rglob("*") if f.is_file()]
        return [f for f in found if f.stat().st_size == size + 4]  # and its checksum

    def copy(self, to: Path) -> None:
        """Copy the blocks, and of the first shard all else."""
        skip = {Path("zarr.json"), *(Path("_srfx", "done", name) for name in ("lock", "writing"))}
        for folder, _, names in os.walk(self.path):
            for name in names:
                file = Path(folder, name)
                relative = file.relative_to(self.path)
                copy = to / relative
                if relative in skip or name.endswith(".partial") or copy.exists():
                    continue
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
                store.to_disk(copy)


def _in_order(shards: list[_Shard]) -> list[_Shard]:
    """Sort shards; refuse those that are there twice or missing."""
    shards = sorted(shards, key=lambda shard: shard.number)
    for a, b in itertools.pairwise(shards):
        if (a.number, a.count) == (b.number, b.count):
            raise ValueError(
                f"stores must hold each shard once; {_files.shown(a.path)!r} and "
                f"{_files.shown(b.path)!r} both are shard {a.number} of {a.count}"
            )
    count = shards[0].count
    missing = sorted(set(range(1, count + 1)) - {shard.number for shard in shards})
    if missing and all(shard.count == count for shard in shards):
        some = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise ValueError(f"stores must hold all {count} shards; got {len(shards)}: missing {some}")
    return shards


def _attributes(shards: list[_Shard], part: Path) -> dict[str, Any]:
    """Attributes of the whole: those of the first, and where all its numbers come from."""
    first = shards[0]
    out = dict(first.attributes)
    for key in _ORIGIN:
        if key in out:
            out[key] = "; ".join(dict.fromkeys(str(s.attributes.get(key)) for s in shards))
    out[store.SPECIFICATION] = json.dumps(first.specification, sort_keys=True)
    out[store.IDENTITY] = os.urandom(16).hex()
    if first.specification["kind"] == "theory":
        blocks, _ = first.done()
        out["failed_points"] = store.Store(part, None, out, {}).summary(blocks)[0]
    return out
