"""The metadata that every exported file contains in addition to its weights."""

import json
from collections.abc import Mapping
from typing import Any

NOTE = "imgclf"  # the name of the metadata; inside an archive or a folder, it is the file imgclf.json


def as_json(note: Mapping[str, Any]) -> str:
    """Return the metadata as JSON text."""
    return json.dumps(note, indent=2)


def file_system_names(note: Mapping[str, Any]) -> list[bytes]:
    """Return the class names as bytes of the file system, which may not be valid UTF-8."""
    return [name.encode("utf-8", "surrogateescape") for name in note["class_names"]]
