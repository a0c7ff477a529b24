"""CSV as imgclf's own files have it: UTF-8 with surrogate escapes, lines ended by a line feed, any character in a field."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imgclf.base.errors import ImgclfError
from imgclf.base.remedies import why


def line(values: Sequence[object]) -> str:
    """One line of CSV. A bare carriage return is quoted too, which Python's csv leaves to chance."""
    text = io.StringIO()
    bare = any("\r" in value for value in values if isinstance(value, str))
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL).writerow(values)
    return text.getvalue()


def rows(content: bytes) -> Iterable[tuple[int, list[str]]]:
    """(line number, fields) of every row; raises ValueError where it is no CSV."""
    reader = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: not CSV ({error})") from error


def records(file: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, fields by column) of a file that a user may have written; raises ImgclfError naming what is wrong."""
    try:
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ImgclfError(f"{file}: cannot be read: {why(error, 'choose another file')}") from error
    try:
        lines = iter(rows(content))
        header = next(lines, (0, []))[1]
        if len(header) == 1 and ";" in header[0]:
            raise ImgclfError(f"{file}: its columns are separated by semicolons; save it as CSV with commas")
        if not set(needed) <= set(header):
            names = "".join(c if c.isprintable() else "?" for c in ", ".join(header)[:60])
            raise ImgclfError(f"{file}: needs the columns {' and '.join(needed)}, has {names or 'none'}")
        for number, row in lines:
            if row and len(row) != len(header):
                raise ImgclfError(f"{file}, line {number}: {len(row)} fields where the header has {len(header)}")
            if row:
                yield number, dict(zip(header, row, strict=True))
    except ValueError as error:
        raise ImgclfError(f"{file}: {error}") from error
