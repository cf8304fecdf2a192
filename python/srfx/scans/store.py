"""The store of a scan: a zarr 3 group on disk whose blocks are either finished or not there.

A block is one chunk of every variable. Its chunks are written first (each to a temporary file that
is renamed), then its done-marker: an entry of the array ``_srfx/done``, itself a chunk. One writer
at a time holds an advisory lock on ``_srfx/done/lock``.

zarr's settings (``zarr.config``) and Python's warning filters belong to the whole process, whose
other threads use them. They are neither changed here nor relied on: settings go with the call.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from srfx import _identity

if TYPE_CHECKING:
    import xarray as xr

#: Type and attributes of what is stored, by name.
Variables: TypeAlias = Mapping[str, tuple[Any, Mapping[str, Any]]]

#: Version of the layout described above, and of what the specification holds.
FORMAT = 2

#: The oldest zarr that stores scans, as in pyproject.toml.
OLDEST_ZARR = (3, 1, 3)

#: Attributes of a store that hold what is compared on resuming, and the names of its parts.
SPECIFICATION, IDENTITY, LAYOUT = "srfx_specification", "srfx_store_id", "srfx_blocks"

#: The share of the blocks that a store is for, in its specification.
SHARD = "shard"

#: Attribute of labels that are text: they themselves.
LABELS = "labels"


def require_zarr() -> Any:
    """Import zarr, or say how to get it."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError("a stored scan needs zarr: pip install 'srfx[scan]'") from error
    if tuple(map(int, re.findall(r"\d+", zarr.__version__)[:3])) < OLDEST_ZARR:
        raise ImportError(
            f"a stored scan needs zarr >= {'.'.join(map(str, OLDEST_ZARR))}, and "
            f"{zarr.__version__} is installed: pip install 'srfx[scan]'"
        )
    return zarr


class Store:
    """A store opened for writing by this process; close it when done.

    Attributes
    ----------
    path : Path
        Where it is.
    identity : str
        Written into it at its creation: tells it from a later one at the same place.
    chunks : tuple of int
        Shape of a block.
    arguments : dict
        Values of arguments of the scan whose last digits are others than those asked for.
    """

    def __init__(
        self,
        path: Path,
        lock: Lock | None,
        attributes: dict[str, Any],
        arguments: dict[str, NDArray[np.float64]],
    ) -> None:
        self.path = path
        self.arguments = arguments
        self._lock = lock
        self.attributes = attributes
        self.identity = str(attributes[IDENTITY])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a block, in the order of the dimensions."""
        return tuple(json.loads(self.attributes[LAYOUT])["chunks"])

    @property
    def writable(self) -> bool:
        """Whether blocks may be added."""
        return self._lock is not None

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def finished(
        self, indices: list[tuple[int, ...]], variables: Variables, limit: int
    ) -> NDArray[np.bool_]:
        """Which of the first ``limit`` blocks are there, marker and every chunk of its full size.

        A marker without its chunks (half deleted) is taken away.
        """
        folder = self.path / "_srfx" / "done" / "c"
        marked = {int(name) for name in _names(folder) if name.isdecimal()}
        sizes = {
            name: int(np.prod(self.chunks)) * np.dtype(dtype).itemsize + 4  # and its checksum
            for name, (dtype, _) in variables.items()
        }
        out = np.zeros(limit, dtype=bool)
        for block in sorted(marked):
            if block >= limit:
                continue
            whole = _size(folder / str(block)) == 16 + 4 and all(
                _size(self._chunk(name, indices[block])) == size for name, size in sizes.items()
            )
            out[block] = whole
            if not whole and self.writable:
                (folder / str(block)).unlink(missing_ok=True)
        return out

    def _chunk(self, name: str, index: tuple[int, ...]) -> Path:
        return self.path.joinpath(name, "c", *map(str, index))

    def summary(self, blocks: int) -> tuple[int, float]:
        """Points that failed, and the largest quadrature error, over the finished blocks."""
        if not blocks:
            return 0, 0.0
        notes = np.asarray(open_array(self.path, "_srfx/done")[: 2 * blocks])
        return int(np.nansum(notes[0::2])), float(np.nanmax(notes[1::2], initial=0.0))

    def describe(self, values: Mapping[str, Any]) -> None:
        """Set attributes of the store."""
        attributes = attributes_of("out", self.path)
        if not values.items() <= attributes.items():
            write_root(self.path, attributes | dict(values))

    def consolidate(self) -> None:
        """Show readers the arrays as they are."""
        write_root(self.path, attributes_of("out", self.path))

    def extend(self, variables: Variables, replicates: int, blocks: int) -> None:
        """Make room for so many replicates of so many blocks each: the last dimension grows."""
        names = [*variables, "replicate", "_srfx/done"]
        arrays = {name: open_array(self.path, name) for name in names}
        lengths = {name: array.shape[-1] for name, array in arrays.items()}
        lengths["_srfx/done"] //= 2 * blocks
        most = max(replicates, *lengths.values())
        if all(length == most for length in lengths.values()):
            return
        for name in variables:
            arrays[name].resize((*arrays[name].shape[:-1], most))
        arrays["_srfx/done"].resize((2 * blocks * most,))
        arrays["replicate"].resize((most,))
        arrays["replicate"][:] = np.arange(most)
        self.consolidate()


def open_store(
    path: Path,
    template: xr.Dataset,
    variables: Variables,
    chunks: tuple[int, ...],
    specification: dict[str, Any],
    arguments: Mapping[str, NDArray[np.float64]],
    blocks: int,
    resume: bool,
) -> Store:
    """Create the store of a specification, or open it to go on.

    Parameters
    ----------
    path : Path
        Its directory.
    template : xarray.Dataset
        Coordinates and attributes.
    variables : mapping
        Name to (dtype, attributes).
    chunks : tuple of int
        Shape of a block in a new store; an old one keeps its own.
    specification : dict
        What the numbers depend on.
    arguments : mapping
        Values of the arguments in it.
    blocks : int
        Number of blocks of a new store.
    resume : bool
        Whether an existing store may be continued.
    """
    require_zarr()
    if path.exists() and not path.is_dir():
        raise ValueError(f"out must be a directory of srfx.scan, or new; {str(path)!r} is a file")
    existed = path.is_dir() and any(path.iterdir())
    if existed:
        if not (path / "_srfx" / "done").is_dir() and not _coming(path):
            raise ValueError(
                f"out must be a store made by srfx.scan, or new; {str(path)!r} is something else "
                "(or half deleted): remove it or give another name"
            )
        if not resume and not (path / "_srfx" / "done" / "creating").exists():
            raise ValueError(
                f"out must not exist with resume=False; {str(path)!r} does: resume it, remove it, "
                "or give another name"
            )
    try:
        (path / "_srfx" / "done").mkdir(parents=True, exist_ok=True)
        lock: Lock | None = Lock(path / "_srfx" / "done" / "lock")
    except OSError as error:
        if not existed or not _denied(error):
            raise type(error)(
                error.errno,
                f"out must be a directory that can be made and written to ({error.strerror})",
                str(path),
            ) from error
        lock = None  # read only: good enough if nothing is missing
    try:
        marker = path / "_srfx" / "done" / "creating"
        if lock is not None and (not existed or marker.exists() or _only_a_lock(path)):
            _create(path, template, variables, chunks, specification, blocks)
        attributes = attributes_of("out", path)
        labels = {
            f"labels of {dim}": template[dim].values for dim in template.dims if dim in template
        }
        kept = _compare(path, attributes, specification, arguments, labels)
        store = Store(path, lock, attributes, kept)
        if lock is not None:
            _sweep(path)
            _mend(store, template, variables, blocks)
            if _stale(path, [*map(str, template.coords), *variables]):
                store.consolidate()
        return store
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def shown_to_readers(path: Path) -> dict[str, Any]:
    """Return the copy of the metadata that readers are shown: see `write_root`."""
    root = json.loads((path / "zarr.json").read_text("utf-8"))
    shown: dict[str, Any] = (root.get("consolidated_metadata") or {}).get("metadata", {})
    return shown


def _stale(path: Path, names: list[str]) -> bool:
    """Whether readers are shown other shapes than the arrays have: a writer was killed midway.

    Or the group ``_srfx``, as by earlier versions.
    """
    shown = shown_to_readers(path)
    return "_srfx" in shown or any(
        shown.get(name, {}).get("shape")
        != json.loads((path / name / "zarr.json").read_text())["shape"]
        for name in names
    )


def _denied(error: OSError) -> bool:
    import errno

    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def _coming(path: Path) -> bool:
    """Another has begun to make the directories, one inside the other."""
    return _names(path) == ["_srfx"] and set(_names(path / "_srfx")) <= {"done"}


def _only_a_lock(path: Path) -> bool:
    """Killed before anything was begun."""
    return _names(path) == ["_srfx"] and set(_names(path / "_srfx" / "done")) <= {"lock"}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _local(path: Path) -> Any:
    from zarr.storage import LocalStore

    return LocalStore(path)


def _new_array(path: Path, name: str, dims: list[str], **options: Any) -> Any:
    """Create an array, whatever zarr's settings are."""
    from zarr.codecs import BytesCodec

    text = options["dtype"] is str
    return require_zarr().create_array(
        _local(path),
        name=name,
        zarr_format=3,
        filters=None,
        serializer="auto" if text else BytesCodec(endian="little"),
        chunk_key_encoding={"name": "default", "separator": "/"},
        dimension_names=dims,
        config=_SETTINGS,
        **options,
    )


def open_array(path: Path, name: str) -> Any:
    """Open an array, whatever zarr's settings are."""
    zarr = require_zarr()
    array = zarr.open_array(_local(path), path=name, mode="r+", zarr_format=3)
    return zarr.Array(zarr.AsyncArray(array.metadata, array.store_path, _SETTINGS))


#: A block of NaN is a result too, and is written though it looks like what is not computed yet.
_SETTINGS: Any = {"order": "C", "write_empty_chunks": True}


def write_root(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write the metadata of the root, and in them, for readers, a copy of those of all arrays.

    It is what ``zarr.consolidate_metadata`` writes, which warns at every call that other programs
    may not know this part. The group ``_srfx`` is left out: it is nobody else's, and a copy that
    holds a group cannot be read by zarr under ``python -O``.
    """
    nodes = sorted(set(path.glob("*/zarr.json")) - {path / "_srfx" / "zarr.json"})
    root = {
        "attributes": dict(attributes),
        "zarr_format": 3,
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {node.parent.name: json.loads(node.read_text("utf-8")) for node in nodes},
        },
        "node_type": "group",
    }
    part = path / f"zarr.{os.urandom(16).hex()}.partial"
    try:
        part.write_text(json.dumps(root, indent=2), "utf-8")
        os.replace(part, path / "zarr.json")
    finally:
        part.unlink(missing_ok=True)


def _create(
    path: Path,
    template: xr.Dataset,
    variables: Variables,
    chunks: tuple[int, ...],
    specification: dict[str, Any],
    blocks: int,
) -> None:
    """Lay out a new store; the root's metadata, written last, make it one."""
    import shutil

    home = path / "_srfx" / "done"
    (home / "creating").touch()
    ours = {path / "_srfx", home / "lock", home / "creating"}
    for entry in {*path.iterdir(), *home.iterdir()} - ours:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in template.coords:
        _make_coordinate(path, template, str(name))
    for name in variables:
        _make_array(path, template, variables, chunks, name)
    _make_marks(path, blocks)
    attributes = {
        **template.attrs,
        IDENTITY: os.urandom(16).hex(),
        SPECIFICATION: json.dumps(specification, sort_keys=True),
        LAYOUT: json.dumps({"format": FORMAT, "chunks": list(chunks)}),
    }
    write_root(path, attributes)
    (home / "creating").unlink()


def _make_coordinate(path: Path, template: xr.Dataset, name: str) -> None:
    values, attributes = plain(template[name].values)
    kind, zero = values.dtype.kind, values.dtype.type(0)
    if kind == "U":  # for readers that know no text, as tensorstore
        attributes = {LABELS: values.tolist()}
    array = _new_array(
        path,
        name,
        list(map(str, template[name].dims)),
        shape=values.shape,
        dtype=str if kind == "U" else values.dtype,  # text of fixed length is not settled yet
        chunks=tuple(max(1, size) for size in values.shape),
        fill_value=float("nan") if kind == "f" else "" if kind == "U" else zero,
        compressors=None,
        attributes=attributes,
    )
    array[...] = values


def plain(values: NDArray[Any]) -> tuple[NDArray[Any], dict[str, str]]:
    """Values of a type that zarr and NetCDF have, and the CF attributes that xarray decodes."""
    if values.dtype.kind == "M":
        since = {"units": "nanoseconds since 1970-01-01", "calendar": "proleptic_gregorian"}
        return values.astype("int64"), since
    if values.dtype.kind == "m":
        return values.astype("int64"), {"units": "nanoseconds", "dtype": "timedelta64[ns]"}
    return values, {}


def _make_array(
    path: Path, template: xr.Dataset, variables: Variables, chunks: tuple[int, ...], name: str
) -> None:
    from zarr.codecs import Crc32cCodec

    dtype, attributes = variables[name]
    dims = [str(dim) for dim in template.attrs["srfx_dims"]]
    others = " ".join(sorted(str(c) for c in template.coords if c not in dims))
    _new_array(
        path,
        name,
        dims,
        shape=tuple(template.sizes[dim] for dim in dims),
        chunks=chunks,
        dtype=dtype,
        # what is not computed yet: no value that a result can have
        fill_value=float("nan") if np.dtype(dtype).kind == "f" else -1,
        compressors=[Crc32cCodec()],  # digits do not compress; damage is noticed on reading
        attributes={**attributes, **({"coordinates": others} if others else {})},
    )


def _make_marks(path: Path, blocks: int) -> None:
    from zarr.codecs import Crc32cCodec

    _make_group(path)
    _new_array(
        path,
        "_srfx/done",
        ["mark"],
        shape=(2 * blocks,),
        chunks=(2,),
        dtype="float64",
        fill_value=float("nan"),
        compressors=[Crc32cCodec()],
        attributes={"meaning": "for each block: points that failed, largest quadrature error"},
    )


def _make_group(path: Path) -> None:
    require_zarr().open_group(_local(path), path="_srfx", mode="a", zarr_format=3)


def attributes_of(argument: str, path: Path) -> dict[str, Any]:
    """Return the attributes of a store, which an argument names."""
    try:
        attributes: dict[str, Any] = json.loads((path / "zarr.json").read_text())["attributes"]
        for key in (SPECIFICATION, IDENTITY, LAYOUT):
            attributes[key]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{argument} must be a store made by srfx.scan; the metadata of {str(path)!r} are "
            "missing or not its own (half deleted?): remove it or give another name"
        ) from None
    return attributes


def known(name: str, path: Path, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the specification of a store, or refuse one of another format."""
    found: dict[str, Any] = json.loads(attributes[SPECIFICATION])
    layout = json.loads(attributes[LAYOUT])["format"]
    if layout != FORMAT:
        raise ValueError(
            f"{name} must be a store of this version of srfx; {str(path)!r} was written by srfx "
            f"{found.get('srfx_version')} in format {layout}, and not {FORMAT}: it can be read, "
            "but not gone on with: finish it with that version, give another name, or remove it"
        )
    return found


def _compare(
    path: Path,
    attributes: dict[str, Any],
    wanted: dict[str, Any],
    arguments: Mapping[str, NDArray[np.float64]],
    labels: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[np.float64]]:
    """Refuse a store of another specification, and show the difference.

    Return the store's values of arguments whose last digits are others than those asked for.
    """
    found = known("out", path, attributes)
    said, values = differences(path, found, wanted, arguments, labels)
    if said:
        raise ValueError(
            f"out must be a store of this scan; {str(path)!r} holds another, which differs in "
            f"{said}: give another name, or remove it"
        )
    return values


def differences(
    path: Path,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    arguments: Mapping[str, NDArray[np.float64]],
    labels: Mapping[str, NDArray[Any]],
) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """Say in what the specification of a store differs from another, of these arguments.

    Return with it the store's values of arguments that differ in their last digits alone.
    """
    wanted = json.loads(json.dumps(wanted))
    values = {
        name: (_stored(path, name, found[name]), asked)
        for name, asked in arguments.items()
        if name in found and found[name] != wanted[name]
    }
    named = {
        key: (_stored_labels(path, found[key], wanted[key], asked), asked)
        for key, asked in labels.items()
        if key in found and key in wanted and found[key] != wanted[key]
    }
    said = list(_identity.differences(found, wanted, {**values, **named}))
    more = f" (and {len(said) - 6} more)" if len(said) > 6 else ""
    kept = {name: stored for name, (stored, _) in values.items() if stored is not None}
    return "; ".join(said[:6]) + more, kept


def _stored(path: Path, name: str, known: Any) -> NDArray[np.float64] | None:
    """Return the values of an argument in a store; None if they are lost."""
    if not isinstance(known, dict):
        return np.asarray(known, dtype=np.float64)
    try:
        values = np.asarray(open_array(path, name)[...], dtype=np.float64)
    except (OSError, ValueError, KeyError):
        return None
    return values if _identity.of_argument(values, known["dimension"]) == known else None


def _stored_labels(path: Path, known: Any, wanted: Any, like: NDArray[Any]) -> NDArray[Any] | None:
    """Return the labels in a store; None if they are lost, or of another kind."""
    if known.get("kind") != wanted["kind"]:
        return None
    try:
        labels = np.asarray(open_array(path, known["dimension"])[...])
    except (OSError, ValueError, KeyError):
        return None
    return labels.astype(like.dtype) if like.dtype.kind in "mM" else labels


def _sweep(path: Path) -> None:
    """Remove temporary files of writers that were killed."""
    for folder, _, files in os.walk(path):
        for file in files:
            if file.endswith(".partial"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, file))


def _mend(store: Store, template: xr.Dataset, variables: Variables, blocks: int) -> None:
    """Put back metadata of arrays that somebody deleted; their blocks count as missing."""
    import shutil

    path = store.path
    lost = [name for name in variables if not (path / name / "zarr.json").exists()]
    marks = not (path / "_srfx" / "done" / "zarr.json").exists()
    group = (path / "_srfx" / "zarr.json").exists()
    gone = [str(c) for c in template.coords if not _intact(path, template, str(c))]
    if group and not (lost or marks or gone):
        return
    for name in lost:
        shutil.rmtree(path / name, ignore_errors=True)
        _make_array(path, template, variables, store.chunks, name)
    if marks:
        shutil.rmtree(path / "_srfx" / "done" / "c", ignore_errors=True)
        _make_marks(path, blocks)
    if not group:
        _make_group(path)
    for name in gone:
        shutil.rmtree(path / name, ignore_errors=True)
        _make_coordinate(path, template, name)
    store.consolidate()


def _intact(path: Path, template: xr.Dataset, name: str) -> bool:
    """Whether a coordinate is there with its values; there may be more replicates."""
    if not (path / name / "zarr.json").exists():
        return False
    array = open_array(path, name)
    wanted, found = plain(template[name].values)[0], np.asarray(array[...])
    if wanted.dtype.kind == "U" and LABELS not in array.attrs:  # of an earlier version
        return False
    if name == "replicate":
        return bool((found == np.arange(len(found))).all())
    return found.shape == wanted.shape and bool(_identity.close(found, wanted).all())


# --- writing blocks, from any thread or process ---


@functools.lru_cache(maxsize=64)
def _kept_open(path: str, identity: str, name: str) -> Any:
    return open_array(Path(path), name)


def _put(path: str, identity: str, name: str, where: tuple[slice, ...], values: Any) -> None:
    """Write into an array, which may have grown (replicates) since this process opened it."""
    array = _kept_open(path, identity, name)
    if any(box.stop > size for box, size in zip(where, array.shape, strict=True)):
        _kept_open.cache_clear()
        array = _kept_open(path, identity, name)
    array[where] = values


def visible(path: str, identity: str) -> bool:
    """Whether this process sees that very store."""
    try:
        found = json.loads((Path(path) / "zarr.json").read_text())
        return bool(found["attributes"][IDENTITY] == identity)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_block(
    path: str,
    identity: str,
    block: int,
    where: tuple[slice, ...],
    index: tuple[int, ...],
    arrays: Mapping[str, NDArray[Any]],
    notes: tuple[int, float],
) -> None:
    """Write a block: its chunks, then, when they are on the disk, its marker."""
    for name, values in arrays.items():
        _put(path, identity, name, where, values)
        to_disk(Path(path).joinpath(name, "c", *map(str, index)))
    mark = (slice(2 * block, 2 * block + 2),)
    _put(path, identity, "_srfx/done", mark, np.array(notes, dtype=float))


def to_disk(file: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- one writer at a time ---


class Lock:
    """An advisory lock, let go by the system when its holder dies.

    Where the file system has no such locks, a file that exists while somebody writes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._exclusive: Path | None = None
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take()
        except BaseException:
            os.close(self._descriptor)
            raise
        import socket

        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(note).encode(), 0)

    def _take(self) -> None:
        try:
            import fcntl

            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(self._refusal("")) from None
        except (ImportError, OSError):
            held = self._file.with_name("writing")
            try:
                os.close(os.open(held, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                hint = f" (if nobody is, remove {str(held)!r})"
                raise ValueError(self._refusal(hint)) from None
            self._exclusive = held

    def _refusal(self, hint: str) -> str:
        try:
            note = json.loads(self._file.read_text())
            who = f"process {note['pid']} on {note['host']} since {note['since']}"
        except (OSError, ValueError, KeyError):
            who = "another process"
        return f"out is being written by {who}: {str(self._file.parents[2])!r}{hint}"

    def release(self) -> None:
        """Let others write."""
        if self._exclusive is not None:
            self._exclusive.unlink(missing_ok=True)
        os.close(self._descriptor)  # and with it the lock


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
