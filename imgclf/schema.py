"""`imgclf schema`: what is in the JSON that commands print and folders keep, as JSON Schemas (draft 2020-12)."""

import json
import re
from importlib import resources
from typing import Any

from imgclf.core.errors import UsageError

_FOLDER = resources.files("imgclf") / "schemas"


def titles() -> dict[str, str]:
    """What each schema describes, by its name."""
    return {name: _read(name)["title"] for name in _names()}


def schema(name: str) -> dict[str, Any]:
    """A schema that stands for itself: those that it refers to are inside, among `$defs`. Raises UsageError for no name."""
    if name not in _names():
        raise UsageError(f"{name}: no such schema; there are {', '.join(_names())}")
    whole = _read(name)
    inside: dict[str, Any] = {}
    wanted = _others(whole)
    while missing := sorted(wanted - set(inside)):
        inside[missing[0]] = _read(missing[0])
        wanted |= _others(inside[missing[0]])
    return whole | {"$defs": whole.get("$defs", {}) | inside} if inside else whole


def _others(schema: dict[str, Any]) -> set[str]:
    """The names of those that a schema refers to."""
    return set(re.findall(r'"\$ref": "urn:imgclf:([a-z-]+):', json.dumps(schema)))


def _names() -> list[str]:
    return sorted(file.name.removesuffix(".json") for file in _FOLDER.iterdir() if file.name.endswith(".json"))


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text("utf-8"))
    return found
