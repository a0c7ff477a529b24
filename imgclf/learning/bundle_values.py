"""The values of a bundle.json: each of the type and in the range that the readers of a run count on."""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any


def check(info: Mapping[str, Any], files: set[str]) -> None:
    """Raise KeyError, TypeError or ValueError for what others would stumble over.

    files: those that a run must have, and the only ones it may name.
    """
    names = info["class_names"]
    if not isinstance(names, list) or len(names) < 2 or len(set(names)) < len(names):
        raise ValueError("class_names")
    for name in names:
        if not _is_class_name(name):
            raise ValueError(f"class name {name!r}")
    if info["metrics"]["val_baseline"]["class_name"] not in names:
        raise ValueError(f"val_baseline {info['metrics']['val_baseline']['class_name']!r}")
    if set(info["files"]) != files:
        raise ValueError("files")
    for path, is_right in _VALUES.items():
        value: Any = info
        for key in path.split("."):
            value = value[key]
        if not is_right(value):
            raise ValueError(f"{path} {str(value)[:60]}")


def _is_class_name(name: object) -> bool:
    """Labels are printed, and used as folder names by `predict --move-to`."""
    is_file_name = isinstance(name, str) and name and not name.startswith(".") and len(name.encode()) <= 255
    return bool(is_file_name) and not any(letter == "/" or unicodedata.category(letter) == "Cc" for letter in str(name))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _is_positive(value: object) -> bool:
    return _is_count(value) and value != 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _are(count: int, is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == count and all(map(is_right, value))


def _is_interval(value: Any) -> bool:
    return _are(2, _is_share)(value) and value[0] <= value[1]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value and len(value) < 1 << 16


def _each(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_right, value.values()))


_VALUES: dict[str, Callable[[Any], bool]] = {
    "model": _is_text,
    "finished": _is_text,
    "precision": _is_text,
    "packages": _each(_is_text),
    "parameters": _is_count,
    "data.path": _is_text,
    "data.split_hash": _is_text,
    "data.pictures": _each(_is_count),
    "metrics.epochs": _is_positive,
    "metrics.best_epoch": _is_count,
    "metrics.val_accuracy": _is_share,
    "metrics.val_interval": _is_interval,
    "metrics.val_baseline.accuracy": _is_share,
    "metrics.val_baseline.interval": _is_interval,
    "metrics.val_baseline.verdict": lambda value: value in ("better", "not better", "worse"),
    "calibration.temperature": lambda value: _is_number(value) and 0.01 <= value <= 100,
    "calibration.pictures": _is_positive,
    "calibration.thresholds": lambda value: isinstance(value, list) and all(map(_are(3, _is_share), value)),
    "class_weights": lambda value: value is None or (isinstance(value, list) and all(map(_is_number, value))),
}
