"""Read files that may come from someone else: regular ones alone, since a pipe waits without end, and only so much of them."""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from imgclf.base.errors import ImgclfError
from imgclf.base.remedies import why

LARGEST_JSON = 1 << 26  # bytes; of a run with a thousand classes it is a thousandth


def opened(path: Path) -> BinaryIO:
    """A regular file, open to be read. Raises ImgclfError for anything else, and when it cannot be opened."""
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
        try:
            file = open(descriptor, "rb")  # noqa: SIM115  (the caller closes it)
        except OSError:  # a folder, which only Linux opens at all
            os.close(descriptor)
            raise
    except (OSError, ValueError) as error:  # the second for a path with a NUL
        reason = why(error, "choose another file") if isinstance(error, OSError) else str(error)
        raise ImgclfError(f"{path}: cannot be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ImgclfError(
            f"{path}: cannot be read: no regular file (a pipe or device); save its content to a file and give that"
        )
    return file


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises ImgclfError for another file, or a larger one."""
    with opened(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise ImgclfError(f"{path}: cannot be read: {why(error, 'choose another file')}") from error
    if len(content) > limit:
        raise ImgclfError(f"{path}: larger than {limit:,} bytes, the most that is read of such a file; choose another file")
    return content


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds, whose numbers are all finite.

    Raises ImgclfError for what is no regular file or too large, and ValueError for other content.
    """
    try:
        content = json.loads(read_bounded(path, LARGEST_JSON), parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is not finite")
    return number
