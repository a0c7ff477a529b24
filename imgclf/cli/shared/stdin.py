"""Paths and images from the standard input."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import cast

from imgclf.core.errors import UsageError


def open_stdin() -> io.BufferedReader:
    """Return the standard input as bytes. Raises UsageError if it is closed, as in `imgclf ... <&-`."""
    if sys.stdin is None:
        raise UsageError("stdin is closed, so there is no input; pipe images or paths in, or give files instead of -")
    return cast(io.BufferedReader, sys.stdin.buffer)


def with_stdin(inputs: Iterable[str], nul: bool) -> Iterator[str]:
    """Yield the inputs, and for `-` the paths on stdin as they arrive. nul: these end with NUL instead of a newline."""
    from imgclf.images.formats.filetypes import sniff

    for name in inputs:
        if name == "-" and nul:
            rest, stdin = b"", open_stdin()
            while block := stdin.read1(65536):
                *whole, rest = (rest + block).split(b"\0")
                yield from map(os.fsdecode, filter(None, whole))
            if rest:
                yield os.fsdecode(rest)
        elif name == "-":
            stdin = open_stdin()
            head = stdin.peek(512)
            if sniff(head[:32]) and b"\0" in head:
                raise UsageError("stdin contains an image instead of paths; give --stdin-image instead of -")
            if b"\0" in head:
                raise UsageError("paths on stdin end with NUL, as from find -print0; give --null too")
            yield from (os.fsdecode(line).rstrip("\r\n") for line in stdin if line.strip())
        else:
            yield name
