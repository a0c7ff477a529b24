"""What every exported file contains beside its weights."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTE = "imgclf"  # the name of what a file knows of itself, with .json where it is a file in an archive or a folder
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def as_json(note: Mapping[str, Any]) -> str:
    return json.dumps(note, indent=2)


def file_system_names(note: Mapping[str, Any]) -> list[bytes]:
    """Class names as the file system has them, which may not be valid UTF-8."""
    return [name.encode("utf-8", "surrogateescape") for name in note["class_names"]]
