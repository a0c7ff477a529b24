"""JSON Schemas (draft 2020-12) of the JSON that commands print and store."""

import json
import re
from importlib import resources
from typing import Any

from imgclf.core.errors import UsageError

_FOLDER = resources.files("imgclf") / "schemas"


def titles() -> dict[str, str]:
    """Return the title of each schema, by its name."""
    return {name: _read(name)["title"] for name in _names()}


def schema(name: str) -> dict[str, Any]:
    """Return a schema together with all schemas that it refers to, which are added to its `$defs`.

    Raises:
        UsageError: There is no schema of this name.
    """
    if name not in _names():
        raise UsageError(f"{name}: no such schema; available: {', '.join(_names())}")
    main = _read(name)
    added: dict[str, Any] = {}
    needed = _references(main)
    while missing := sorted(needed - set(added)):
        added[missing[0]] = _read(missing[0])
        needed |= _references(added[missing[0]])
    return main | {"$defs": main.get("$defs", {}) | added} if added else main


def _references(schema: dict[str, Any]) -> set[str]:
    """Return the names of the schemas that a schema refers to."""
    return set(re.findall(r'"\$ref": "urn:imgclf:([a-z-]+):', json.dumps(schema)))


def _names() -> list[str]:
    return sorted(file.name.removesuffix(".json") for file in _FOLDER.iterdir() if file.name.endswith(".json"))


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text("utf-8"))
    return content
