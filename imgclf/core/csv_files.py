"""Read and write CSV files. Written are UTF-8 with surrogate escapes, commas and line feeds; read is what spreadsheets save.

Spreadsheets run a text that begins like a formula, and names of files and classes may come from someone else. Therefore every
table is written with an apostrophe before such a text, and the apostrophe is removed when the table is read. This includes
split manifests, although other programs read them: people open them in spreadsheets too, such names are rare, and programs
that need the exact names can read JSON, or the class folders of `split --export`.
"""

import collections
import csv
import io
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from imgclf.core.errors import ImgclfError
from imgclf.core.files.reading import read_bounded

LARGEST = 1 << 28  # bytes: more than a million lines of paths
_LINE = 1 << 20  # characters
# The start of a formula, also in fullwidth characters. Apostrophes before it count too, so that `_plain` can undo `cell`.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_SEPARATORS = ",;\t"  # many European spreadsheets use semicolons; "Unicode text" uses tabs


def line(values: Sequence[object]) -> str:
    """Return one line of CSV. All fields are quoted if one has a carriage return: not every Python version quotes it alone."""
    text = io.StringIO()
    values = [cell(value) for value in values]
    has_return = any("\r" in value for value in values if isinstance(value, str))
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL).writerow(values)
    return text.getvalue()


def cell(value: object) -> object:
    """Return a value as it is written: with an apostrophe if it is text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _plain(text: str) -> str:
    """Undo `cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def rows(content: bytes, *needed: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every row.

    The separator is the one of comma, semicolon and tab with which the first line has the needed columns, or most fields.

    Raises:
        ValueError: The content is not CSV.
    """
    separator = max(_SEPARATORS, key=partial(_fits, _text(content).read(65536), needed))
    reader = csv.reader(_lines(_text(content)), delimiter=separator)
    try:
        for row in reader:
            yield reader.line_num, [_plain(field) for field in row]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: not CSV ({error})") from error


def _fits(start: str, needed: Sequence[str], separator: str) -> tuple[bool, int]:
    """Return the score of a separator: (the first line has the needed columns, number of columns)."""
    try:
        header = [name.strip() for name in next(csv.reader(io.StringIO(start, newline=""), delimiter=separator), [])]
    except csv.Error:
        header = []
    return set(needed) <= set(header), len(header)


def _text(content: bytes) -> IO[str]:
    """Open content as text without its byte order mark. Excel writes UTF-16 and UTF-8 marks."""
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    encoding, errors = ("utf-16", "replace") if is_wide else ("utf-8-sig", "surrogateescape")
    return io.TextIOWrapper(io.BytesIO(content), encoding, errors, newline="")


def _lines(text: IO[str]) -> Iterator[str]:
    number = 0
    while line := text.readline(_LINE + 1):
        number += 1
        if len(line) > _LINE:
            raise ValueError(f"line {number}: longer than {_LINE:,} characters")
        yield line


def records(file: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, fields by column) of a CSV file that a user may have written.

    Raises:
        ImgclfError: The file is not CSV, lacks one of the `needed` columns, or has a row of another length than the header.
    """
    content = read_bounded(file, LARGEST)
    if content.startswith(b"PK\x03\x04"):
        raise ImgclfError(f"{file}: a workbook or archive, not a CSV file; save it as CSV (UTF-8)")
    try:
        lines = rows(content, *needed)
        header = [name.strip() for name in next(lines, (0, []))[1]]
        shown = "".join(c if c.isprintable() else "?" for c in ", ".join(header)[:60])
        if not set(needed) <= set(header):
            raise ImgclfError(f"{file}: needs the columns {' and '.join(needed)}, has {shown or 'none'}")
        twice = next((name for name, count in collections.Counter(header).items() if name and count > 1), None)
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
    """Return a hint for errors about a field in another encoding, as in Excel's plain "CSV"; "" for other fields."""
    return '; the file is not UTF-8: save it as "CSV UTF-8"' if any("\ud800" <= c <= "\udfff" for c in field) else ""
