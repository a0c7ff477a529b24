"""Write tables as CSV files with pandas, safe to open in a spreadsheet."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgclf.core import csv_files
from imgclf.core.files import atomic


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path, columns: Sequence[str] | None = None) -> None:
    """Write rows as a CSV file in UTF-8, one column for each key, atomically. Raises OSError if the file cannot be written."""
    import pandas as pd

    # A field with a bare carriage return must be quoted, but pandas does not always quote it.
    has_bare_return = any("\r" in value for row in rows for value in row.values() if isinstance(value, str))
    cells = [{key: csv_files.cell(value) for key, value in row.items()} for row in rows]
    frame = pd.DataFrame(cells, columns=list(columns) if columns else None)
    text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL if has_bare_return else csv.QUOTE_MINIMAL)
    atomic.write_atomic(path, text)
