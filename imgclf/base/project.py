"""The project's file, imgclf.toml or [tool.imgclf] in pyproject.toml: defaults for the options of commands."""

from pathlib import Path
from typing import Any

from imgclf.base.errors import UsageError

FILE = "imgclf.toml"


def defaults(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """(the file, its values) of the project in a folder; (None, {}) where there is none. Raises UsageError for no TOML."""
    own = folder / FILE
    if own.is_file():
        return own, _read(own)
    shared = folder / "pyproject.toml"
    if shared.is_file():
        tools = _read(shared).get("tool")
        values = tools.get("imgclf") if isinstance(tools, dict) else None
        if isinstance(values, dict):
            return shared, values
    return None, {}


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # here: most commands have no such file, and every one comes by

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error}); mend it, or move it away") from error
