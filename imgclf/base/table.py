"""CSV as written by imgclf (UTF-8 with surrogate escapes, commas, line feeds) and as saved by spreadsheets."""

import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from imgclf.base.errors import ImgclfError
from imgclf.base.remedies import why

_SEPARATORS = ",;\t"  # many European spreadsheets use semicolons; "Unicode text" uses tabs


def line(values: Sequence[object]) -> str:
    """One line of CSV. A bare carriage return is quoted too, which Python's csv leaves to chance."""
    text = io.StringIO()
    bare = any("\r" in value for value in values if isinstance(value, str))
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL).writerow(values)
    return text.getvalue()


def rows(content: bytes, *needed: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every row. Raises ValueError if the content is not CSV.

    The separator (comma, semicolon or tab) is the one that gives the first line the needed columns, or else the most fields.
    """
    text = _text(content)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_SEPARATORS, key=partial(_fits, text[:65536], needed)))
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: not CSV ({error})") from error


def _fits(start: str, needed: Sequence[str], separator: str) -> tuple[bool, int]:
    """Score of a separator for the first line of a file: has the needed columns, number of columns."""
    try:
        header = [name.strip() for name in next(csv.reader(io.StringIO(start, newline=""), delimiter=separator), [])]
    except csv.Error:
        header = []
    return set(needed) <= set(header), len(header)


def _text(content: bytes) -> str:
    """The text of a file without its byte order mark. Excel writes UTF-16 and UTF-8 marks."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def records(file: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, fields by column) of a file that a user may have written; raises ImgclfError naming what is wrong."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ImgclfError(f"{file}: cannot be read: {why(error, 'choose another file')}") from error
    if content.startswith(b"PK\x03\x04"):
        raise ImgclfError(f"{file}: a workbook or archive, not a CSV file; save it as CSV (UTF-8)")
    try:
        lines = rows(content, *needed)
        header = [name.strip() for name in next(lines, (0, []))[1]]
        shown = "".join(c if c.isprintable() else "?" for c in ", ".join(header)[:60])
        if not set(needed) <= set(header):
            raise ImgclfError(f"{file}: needs the columns {' and '.join(needed)}, has {shown or 'none'}")
        twice = next((name for name in header if name and header.count(name) > 1), None)
        if twice:
            raise ImgclfError(f"{file}: has the column {twice} twice ({shown}); remove one of them")
        for number, row in lines:
            if not any(row):  # an empty line of a spreadsheet
                continue
            if any(row[len(header) :]) or len(row) < len(header):
                raise ImgclfError(f"{file}, line {number}: {len(row)} fields where the header has {len(header)}")
            yield number, dict(zip(header, row, strict=False))
    except ValueError as error:
        raise ImgclfError(f"{file}: {error}") from error


def not_utf8(field: str) -> str:
    """A hint for errors about a field with bytes of another encoding, as in Excel's plain "CSV"; "" for other fields."""
    return '; the file is not UTF-8: save it as "CSV UTF-8"' if any("\ud800" <= c <= "\udfff" for c in field) else ""
