"""CSV as imgclf's own files have it: UTF-8 with surrogate escapes, lines ended by a line feed, any character in a field."""

import csv
import io
from collections.abc import Iterable, Sequence


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
