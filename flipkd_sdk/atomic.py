"""Atomic output: a file or a directory is written under a temporary name and renamed when it is complete.

The temporary name is beside the target, so that the rename stays on one file system. A link to the target is followed.
An error removes the temporary file or directory and leaves what was there before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flipkd_sdk.errors import OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if sys.platform != "win32":
    import fcntl

_MAX_NAME_BYTES = 200
"""Longest name of a target that its temporary name repeats; file systems limit names to 255 bytes."""

# Constants that Windows lacks. O_NONBLOCK keeps the opening of a FIFO from waiting for its other end.
_SAFE_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def check_file(path: Path, *, overwrite: bool, option: str = "--overwrite") -> None:
    """Check that a file may be written.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` is not set, or the path is a directory.
    """
    if path.is_dir():
        raise OutputExistsError(f"{path}: a directory; name a file in it")
    if path.is_file() and not overwrite:
        raise OutputExistsError(_exists(path, option))


def check_directory(
    path: Path, *, overwrite: bool, foreign: Callable[[Path], str | None], option: str = "--overwrite"
) -> None:
    """Check that a directory may be written; an empty one may always be.

    Args:
        path: the directory.
        overwrite: permission to replace it.
        foreign: returns the reason why an existing directory must not be replaced, or None.
        option: the option that sets ``overwrite``, for messages.

    Raises:
        OutputExistsError: the path exists and must not be replaced.
    """
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(_exists(path, option))
    reason = foreign(path) if path.is_dir() else "not a directory"
    if reason is not None:
        raise OutputExistsError(
            f"{path}: {reason}, so {option} does not replace it; remove it yourself or choose another path"
        )


@contextlib.contextmanager
def atomic_file(path: Path, *, exclusive: bool = False) -> Iterator[BinaryIO]:
    """Open a file that takes its name, and is on the disk, when the block ends without an error.

    Args:
        path: the file, which is replaced if it exists.
        exclusive: permit one writer at a time. The temporary name is then fixed, and a writer uses the temporary file
            that a killed one has left.

    Raises:
        OutputExistsError: ``exclusive`` is set and another process writes the file.
        OSError: the file cannot be written; the error names it.
    """
    target = Path(os.path.realpath(path))
    working = target.with_name(_temporary_name(target, exclusive=exclusive))
    with _naming(path, working):
        try:
            with open_own_file(working, create=True) as file:
                if exclusive:
                    _lock(file, working, path)
                file.truncate()
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":
                    file.close()
                # The lock is still held: afterwards the temporary file may be another process's.
                working.replace(target)
        except BaseException:
            # This covers the moment before the lock, in which a signal may come.
            _discard(working)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def atomic_directory(path: Path, *, exclusive: bool = False, keep_existing: bool = False) -> Iterator[Path]:
    """Make a directory that takes its name when the block ends without an error; yields its temporary path.

    Args:
        path: the directory; its parents are made at the end.
        exclusive: assume one writer at a time. The temporary name is then fixed, and what a killed writer has left is
            removed.
        keep_existing: keep a directory that has appeared at ``path`` instead of replacing it.

    Raises:
        OSError: the directory cannot be written; the error names it.
    """
    target = Path(os.path.realpath(path))
    ground = next(parent for parent in target.parents if parent.exists())
    working = ground / _temporary_name(target, exclusive=exclusive)
    with _naming(path, working):
        try:
            if exclusive:
                shutil.rmtree(working, ignore_errors=True)
            working.mkdir()
            yield working
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (keep_existing and target.is_dir()):
                _take_place(working, target)
        finally:
            shutil.rmtree(working, ignore_errors=True)


def open_own_file(path: Path, *, create: bool) -> BinaryIO:
    """Open a regular file of this user for reading and writing, without following a link.

    Args:
        path: the file.
        create: create the file if it is missing.

    Raises:
        OutputExistsError: the path is a link, a FIFO or another special file, has a second name, or belongs to another
            user.
        OSError: the file cannot be opened.
    """
    while True:
        if create:
            with contextlib.suppress(FileExistsError):
                return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE_FLAGS, 0o666), "r+b")
        try:
            descriptor = os.open(path, os.O_RDWR | _SAFE_FLAGS)
        except FileNotFoundError:
            if not create:
                raise
            continue  # Its writer has renamed it between the two calls.
        except OSError as error:
            if reason := _unsafe(path, path.lstat()):
                raise OutputExistsError(f"{path}: {reason}; move it away") from error
            raise
        if reason := _unsafe(path, os.fstat(descriptor)):
            os.close(descriptor)
            raise OutputExistsError(f"{path}: {reason}; move it away")
        return os.fdopen(descriptor, "r+b")


def _unsafe(path: Path, status: os.stat_result) -> str | None:
    """Return the reason why writing to a file could change something else."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_nlink > 1:
        return "a file with a second name"
    # The folder's owner can replace the file anyway, and on network mounts owns the files of all users.
    if sys.platform != "win32" and status.st_uid not in (os.geteuid(), path.parent.stat().st_uid):
        return "a file of another user"
    return None


def _exists(path: Path, option: str) -> str:
    return f"{path}: exists already; pass {option} to replace it or choose another path"


def _temporary_name(target: Path, *, exclusive: bool) -> str:
    name = os.fsencode(target.name)
    stem = target.name if len(name) <= _MAX_NAME_BYTES else hashlib.sha256(name).hexdigest()
    return f".{stem}.part" if exclusive else f".{stem}.{secrets.token_hex(4)}.part"


@contextlib.contextmanager
def _naming(path: Path, working: Path) -> Iterator[None]:
    """Let errors name the target instead of the temporary path."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not str(error.filename or working).startswith(str(working)):
            raise
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


def _lock(file: BinaryIO, working: Path, path: Path) -> None:
    if sys.platform == "win32":
        return  # Windows refuses to rename a file that another process has open.
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputExistsError(f"{path}: another run is writing it; wait for it or name another output") from error
    except OSError:
        return  # The file system has no locks.
    # Between opening and locking, another process may have given the file its final name.
    if not working.exists() or not os.path.samestat(os.fstat(file.fileno()), working.stat()):
        raise OutputExistsError(f"{path}: another run has just written it; pass --overwrite to replace it")


def _discard(working: Path) -> None:
    """Remove a temporary file, unless another process is writing it or it is none of ours."""
    with contextlib.suppress(OSError, OutputExistsError), open_own_file(working, create=False) as file:
        if sys.platform != "win32":
            with _unless_blocked():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, the name may have become that of another writer's file.
            if os.path.samestat(os.fstat(file.fileno()), working.stat()):
                working.unlink()
    if sys.platform == "win32":
        with contextlib.suppress(OSError):  # Windows refuses to remove a file that another process has open.
            working.unlink()


@contextlib.contextmanager
def _unless_blocked() -> Iterator[None]:
    """Suppress errors of a file system without locks."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError:
        pass


def _take_place(working: Path, target: Path) -> None:
    if not target.exists():
        working.rename(target)
        return
    # A full directory cannot be renamed over. A kill in between leaves the old one beside its place.
    retired = working.with_name(f"{working.name}.old")
    target.rename(retired)
    try:
        working.rename(target)
    except OSError:
        retired.rename(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)
