"""Locks on files. The system releases them when their process ends, so a lock is never stale."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained


class InUseError(ImgclfError):
    """Another command holds the lock."""


@contextlib.contextmanager
def locked(state: Path, command: str) -> Iterator[None]:
    """Lock a data folder for one command. state: its state folder. command: name of the command, for messages.

    Raises:
        InUseError: Another command holds the lock.
        LinkError: The lock file is a link or not a regular file.
    """
    with contained.at(state) as folder:
        descriptor = folder.open_or_create("lock")
    with open(descriptor, "r+b", buffering=0) as file:
        if not _try_lock(file):
            file.seek(0)
            owner = file.read(200).decode("utf-8", "replace").strip() or "another command"
            raise InUseError(f"{state.parent}: in use by {owner}; wait for it to finish and try again")
        with contextlib.suppress(OSError):  # the name of the owner is only for messages: an undo must work on a full disk
            file.truncate(0)
            file.seek(0)
            begun = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"imgclf {command} (process {os.getpid()}, since {begun})".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)
            _unlock(file)


@contextlib.contextmanager
def held(path: Path, in_use: str) -> Iterator[None]:
    """Lock an existing file for one command, without changing it. Raises InUseError(in_use) if another command holds it."""
    with contained.at(path.parent) as folder:
        descriptor = folder.open(path.name, os.O_RDWR, several_names=True)
    with open(descriptor, "r+b") as file:
        if not _try_lock(file):
            raise InUseError(in_use)
        try:
            yield
        finally:
            _unlock(file)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            file.seek(1 << 30)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(1 << 30)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
