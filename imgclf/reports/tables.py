"""Tables as files, by pandas: CSV that a spreadsheet opens, written whole or not at all."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgclf.core import csv_files
from imgclf.core.files import atomic


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path, columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV in UTF-8, one column for each key. Raises OSError if the file cannot be written."""
    import pandas as pd

    # A bare carriage return in a file name must be quoted, which pandas leaves to chance.
    bare = any("\r" in value for row in rows for value in row.values() if isinstance(value, str))
    cells = [{key: csv_files.cell(value) for key, value in row.items()} for row in rows]
    frame = pd.DataFrame(cells, columns=list(columns) if columns else None)
    text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL)
    atomic.write_atomic(path, text)
