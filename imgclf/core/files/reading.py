"""Read files that may come from someone else: only regular files, because a pipe could block for ever, and up to a limit."""

import json
import math
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from imgclf.core.errors import ImgclfError
from imgclf.core.remedies import why

JSON_BYTES = 1 << 26  # maximum bytes of a JSON file; a run lists every image that it skipped
JSON_VALUES = 1 << 22  # maximum number of values in a JSON file; Python needs up to 100 bytes for each


def opened(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises ImgclfError if it is something else or cannot be opened."""
    try:
        if problem := _special(os.stat(path).st_mode):  # check before opening: opening a device can have side effects
            raise ImgclfError(f"{path}: cannot be read: {problem}")
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = why(error, "choose another file") if isinstance(error, OSError) else str(error)
        raise ImgclfError(f"{path}: cannot be read: {reason}") from error
    if problem := _special(os.fstat(descriptor).st_mode):  # another process replaced it after the first check
        os.close(descriptor)
        raise ImgclfError(f"{path}: cannot be read: {problem}")
    return open(descriptor, "rb")


def _special(mode: int) -> str:
    """Return why a path with this mode is not read; "" for a regular file."""
    if stat.S_ISDIR(mode):
        return "this is a folder, not a file: choose a file"
    if not stat.S_ISREG(mode):
        return "not a regular file but a pipe or device; save its content to a file and use that file"
    return ""


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. Raises ImgclfError for other or larger files."""
    with opened(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise ImgclfError(f"{path}: cannot be read: {why(error, 'choose another file')}") from error
    if len(content) > limit:
        raise ImgclfError(f"{path}: larger than {limit:,} bytes, the limit for such a file; choose another file")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a regular file.

    Raises:
        ImgclfError: The content is not a JSON object with finite numbers, or it has more than JSON_BYTES bytes or JSON_VALUES
            values. The limits are checked before memory is used.
    """
    return json_object(read_bounded(path, JSON_BYTES), path)


def json_object(content: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON object in `content`, as `read_json` does. path: the file it comes from, for messages."""
    if sum(map(content.count, (b",", b"[", b"{"))) > JSON_VALUES:
        raise ImgclfError(f"{path}: cannot be read: more than {JSON_VALUES:,} values, the limit for such a file")
    try:
        found = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ImgclfError(f"{path}: cannot be read: nested too deeply") from error
    except ValueError as error:  # also for bytes that are not valid text
        raise ImgclfError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ImgclfError(f"{path}: cannot be read: not a JSON object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value
