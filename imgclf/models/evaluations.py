"""Read evaluation-<name>.json of a run, which may come from someone else."""

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
    """The SCORES and `data` of an evaluation, None where it lacks one.

    needed: fields that it must have. Raises ImgclfError for a file that cannot be read, and for wrong values.
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
