"""One door for the paths that a user gives, and one way to write a file, which loses nothing."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

#: What a URL begins with. `Path` makes one slash of two; one letter and a colon is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/:]")

#: Names of what this process has open already: to be written to, not opened again.
_OPEN = re.compile(r"/dev/(?:fd/(\d+)|stdout|stderr)|/proc/self/fd/(\d+)")


def local(name: str, value: object) -> Path:
    """Return the absolute path of a file or folder of this machine, with ``~`` expanded.

    What is written and what is read go by this path, wherever the process goes meanwhile.

    Parameters
    ----------
    name : str
        The argument, for the message.
    value : object
        What the user passed: text or an `os.PathLike`.

    Raises
    ------
    TypeError
        Neither, or empty.
    ValueError
        A URL, a home directory that nobody has, a NUL or half a surrogate pair.
    """
    allowed = f"{name} must be a path on this machine (text or os.PathLike)"
    text = os.fsdecode(value) if isinstance(value, (str, os.PathLike)) else ""
    if not text:
        raise TypeError(f"{allowed}; got {value!r}")
    if _URL.match(text):
        raise ValueError(
            f"{allowed}, not a URL; got {text!r} (a local folder of such a name: give its full "
            "path; something remote: copy it)"
        )
    try:
        whole = "\0" not in os.fsdecode(os.fsencode(text))
    except UnicodeEncodeError:
        whole = False
    if not whole:
        raise ValueError(f"{allowed}; got {text!r}, which holds what no name of a file can")
    home = os.path.expanduser(text)
    if home == text and re.match(r"~[^/\\]*[/\\]", text):
        raise ValueError(f"{allowed}; got {text!r}: there is no such home directory")
    return Path(home).absolute()


def shown(path: Path) -> str:
    """Return a path as short as it is clear: relative to where the process is, if below that."""
    with contextlib.suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def check(name: str, path: Path) -> None:
    """Refuse a file that `write` could not write: by trying, and leaving nothing behind.

    Raises
    ------
    OSError
        It is a directory, or its directory is missing, or it cannot be made or written.
    """
    problem = OSError
    target = _followed(path)
    try:
        try:
            mode = os.stat(target).st_mode
            if stat.S_ISREG(mode):
                os.close(os.open(target, os.O_WRONLY))
                return
            if not stat.S_ISDIR(mode) and os.access(target, os.W_OK):
                return
            problem = IsADirectoryError if stat.S_ISDIR(mode) else PermissionError
            why = "is a directory" if stat.S_ISDIR(mode) else "is not writable"
        except FileNotFoundError:
            _try_to_make(target)
            return
    except OSError as error:
        problem, why = type(error), f"is not writable ({error.strerror})"
        if not target.parent.is_dir():
            why = f"is in a directory that does not exist: {shown(target.parent)!r}"
    raise problem(f"{name} must be writable; {shown(path)!r} {why}")


def check_folder(what: str, folder: Path) -> None:
    """Make a folder and try to write there, or say plainly what is in the way.

    Raises
    ------
    OSError
        It is a file, or below one, or it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists())
        below = "" if file == folder else f", so that {str(folder)!r} cannot be made"
        raise NotADirectoryError(f"the {what} is a file: {str(file)!r}{below}") from None
    except OSError as error:
        raise OSError(f"the {what} cannot be made: {error}") from None
    probe = folder / f".srfx-{os.getpid()}"
    try:
        probe.touch()
    except OSError as error:
        raise PermissionError(f"the {what} cannot be written: {error}") from None
    probe.unlink(missing_ok=True)


def _try_to_make(target: Path) -> None:
    """Make a file whose name is as long; not that one, which another may just be writing."""
    name = target.name
    start = len(os.fsencode(name[:16]))
    probe = target.with_name(os.urandom(start).hex()[:start] + name[16:])
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    probe.unlink()


def write(path: Path, content: Callable[[Path], object]) -> None:
    """Write a file: complete, or as it was before.

    The content goes to a temporary file beside the target, which then takes its place. Where that
    cannot be (a file mounted into a container, another's folder) or would change more than
    the content (owner, links), or for a device or a pipe, it is copied into the target instead.
    The mode is kept, symbolic links are followed.

    Parameters
    ----------
    path : Path
        The target, from `local`.
    content : callable
        Given the path of an empty file to write to; called again with another if that fails.

    Raises
    ------
    OSError
        Neither can be written. If the content exists, the message says where it is.
    """
    target = _followed(path)
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    replaceable = _regular(target) and (old is None or _our_own(old))
    part = _written(target.parent, target.suffix, old, content) if replaceable else None
    if part is not None:
        try:
            if old is not None:
                _make_alike(part, target, old)
            os.replace(part, target)
            return
        except OSError:  # then by copying
            pass
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    else:
        part = _written(None, target.suffix, old, content)
        assert part is not None
    try:
        _copy(part, target, old)
    except BrokenPipeError:  # the reader has seen enough
        part.unlink()
        raise
    except BaseException as error:
        left = f"what it should hold is in {str(part)!r}"
        if isinstance(error, OSError):
            why = error.strerror or error
            raise type(error)(f"{shown(path)!r} could not be written ({why}); {left}") from error
        error.add_note(f"{shown(path)!r} is not complete; {left}")
        raise
    part.unlink()


def write_text(path: Path, content: Callable[[IO[str]], object]) -> None:
    """Write a file of text, in UTF-8, as `write` does; the content is given the open file."""

    def fill(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            content(file)

    write(path, fill)


def _followed(path: Path) -> Path:
    """Return the file that a symbolic link points to, there already or not."""
    return Path(os.path.realpath(path)) if _regular(path) else path


def _regular(path: Path) -> bool:
    """Whether it is a regular file, or would be a new one; no device, no pipe."""
    if _OPEN.fullmatch(str(path)):
        return False
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def _our_own(old: os.stat_result) -> bool:
    """Whether nobody else is concerned if a new file takes the place of an old one."""
    return old.st_nlink == 1 and (not hasattr(os, "geteuid") or old.st_uid == os.geteuid())


def _written(
    folder: Path | None,
    suffix: str,
    old: os.stat_result | None,
    content: Callable[[Path], object],
) -> Path | None:
    """Write a temporary file in a folder, None if that cannot be; without one where such go."""
    import tempfile

    mode = 0o666 if old is None and folder is not None else 0o600
    suffix = suffix if len(suffix) < 16 else ""
    part = Path(folder or tempfile.gettempdir(), f".srfx-{os.urandom(8).hex()}{suffix}")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        content(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # a disk that is full may say so only now
        return part
    except (OSError, RuntimeError) as error:  # the latter is what netCDF4 has for a full disk
        part.unlink(missing_ok=True)
        if folder is not None:
            return None
        if isinstance(error, OSError):
            raise
        raise OSError(
            f"a temporary file could not be written to {str(part.parent)!r}: {error}"
        ) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _make_alike(part: Path, target: Path, old: os.stat_result) -> None:
    """Give a new file what belongs to the old one beside its content."""
    if hasattr(os, "chown") and part.stat().st_gid != old.st_gid:
        os.chown(part, -1, old.st_gid)
    os.chmod(part, stat.S_IMODE(old.st_mode))
    for name in os.listxattr(target) if hasattr(os, "listxattr") else ():
        os.setxattr(part, name, os.getxattr(target, name))


def _copy(part: Path, target: Path, old: os.stat_result | None) -> None:
    """Copy into a file, a device or a pipe; remove what has begun to be a new one if it fails."""
    import shutil

    match = _OPEN.fullmatch(str(target))
    if match:
        number = match[1] or match[2] or ("2" if str(target) == "/dev/stderr" else "1")
        descriptor = os.dup(int(number))
    else:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        with part.open("rb") as source, open(descriptor, "wb") as out:
            shutil.copyfileobj(source, out, 2**20)
            if not match and stat.S_ISREG(os.fstat(descriptor).st_mode):
                out.truncate()  # only now: the old blocks are there for the new content
                out.flush()
                os.fsync(descriptor)
    except BaseException:
        if old is None and not match:
            with contextlib.suppress(OSError):
                target.unlink()
        raise
