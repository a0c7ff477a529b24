"""Read evaluation-<name>.json of a run. Runs may come from other people, so the content is checked."""

from pathlib import Path
from typing import Any

from imgclf.core import json_schema
from imgclf.core.errors import ImgclfError
from imgclf.core.files import reading

SCORES = (
    "images",
    "accuracy",
    "interval",
    "baseline",
    "groups",
    "macro_f1",
    "macro_f1_interval",
    "loss",
    "calibration_error",
)
TEST = "evaluation-test.json"


def read(file: Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the SCORES and `data` of an evaluation; None for missing fields.

    Args:
        needed: Fields that must exist.

    Raises:
        ImgclfError: The file cannot be read, a needed field is missing, or a value is invalid.
    """
    remedy = "remove it, or run `imgclf evaluate` again"
    try:
        content = reading.read_json(file)
        for name in (*SCORES, "data"):
            if name in content:
                json_schema.check_property(content[name], "evaluate", name)
            elif name in needed:
                raise json_schema.MismatchError(f"{name} is missing")
    except json_schema.MismatchError as error:
        raise ImgclfError(f"{file}: {error}; {remedy}") from error
    except ImgclfError as error:
        raise ImgclfError(f"{error}; {remedy}") from error
    return {name: content.get(name) for name in (*SCORES, "data")}
