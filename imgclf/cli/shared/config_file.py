"""The project's config file, imgclf.toml or [tool.imgclf] in pyproject.toml: default values of command options."""

import contextlib
import re
from pathlib import Path
from typing import Any

from imgclf.core.errors import UsageError
from imgclf.core.remedies import why

FILE = "imgclf.toml"
_LIMIT = 1 << 63  # whole numbers must be smaller


# Find our section in a file that is not valid TOML: [tool.imgclf...], tool.imgclf = ..., imgclf = {...}.
_OURS = re.compile(rb"""^\s*(\[\s*tool\s*\.\s*["']?imgclf\b|(tool\s*\.\s*)?["']?imgclf["']?\s*[.=])""", re.MULTILINE)


def defaults(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the project's config file in a folder and its values, or (None, {}) if there is none.

    Raises UsageError for an unreadable imgclf.toml, and for an unreadable pyproject.toml only if it has our section.
    """
    own, shared = folder / FILE, folder / "pyproject.toml"
    with contextlib.suppress(OSError):  # no permission to search the folder
        if own.is_file():
            values = _values(own, _content(own))
            _check_values(own, values)
            return own, values
        if shared.is_file():
            content = shared.read_bytes()  # if unreadable, assume that it belongs to another program
            try:
                section = _section(_values(shared, content, foreign=True))
            except UsageError:
                if _OURS.search(content):
                    raise
                return None, {}
            if section is not None:
                _check_values(shared, section)
                return shared, section
    return None, {}


def _section(values: dict[str, Any]) -> dict[str, Any] | None:
    tools = values.get("tool")
    section = tools.get("imgclf") if isinstance(tools, dict) else None
    return section if isinstance(section, dict) else None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {why(error, 'move it away')}") from error


def _values(path: Path, content: bytes, *, foreign: bool = False) -> dict[str, Any]:
    """Return the values of a file. foreign: allow bytes that are not UTF-8, for example in other programs' comments."""
    import tomllib  # here, because every command runs this module and most projects have no config file

    try:
        return tomllib.loads(content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape" if foreign else "strict"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start + 1}); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error}); fix it, or move it away") from error


def _check_values(path: Path, values: dict[str, Any]) -> None:
    """Raise UsageError for values that no option accepts: text that is not UTF-8, huge numbers, and deeper nesting.

    The section of a command contains values and lists of values. Error messages show values of this file, which may come from
    someone else.
    """
    rest: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in values.items()]
    while rest:
        name, value, depth = rest.pop()
        try:
            f"{name}{value if isinstance(value, str) else ''}".encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{path}: [tool.imgclf] is not UTF-8; save the file as UTF-8") from error
        if isinstance(value, int) and not -_LIMIT < value < _LIMIT:
            raise UsageError(f"{path}: {name[:60]}: the number is too large; give one below 2**63")
        if isinstance(value, dict | list):
            if depth > 3:
                raise UsageError(f"{path}: {name[:60]}: nested too deeply; options are values, or lists of values")
            inner = value.items() if isinstance(value, dict) else ((name, item) for item in value)
            rest += [(key, item, depth + 1) for key, item in inner]
