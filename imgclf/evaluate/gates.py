"""Minimum values of metrics: `imgclf evaluate --fail-under`."""

import dataclasses
import re
from collections.abc import Sequence

from imgclf.core import names
from imgclf.core.errors import UsageError

WHOLE = ("accuracy", "f1", "weighted_f1", "auc", "average_precision", "top2", "top3", "top5")  # metrics over all classes
OF_CLASS = ("precision", "recall", "f1")  # metrics of one class


@dataclasses.dataclass(frozen=True)
class Gate:
    """The minimum of a metric. name: as in --fail-under, for example recall[cat]."""

    name: str
    least: float


def gates(text: str, class_names: Sequence[str]) -> list[Gate]:
    """Parse --fail-under, such as `accuracy=0.95,f1=0.9,recall[cat]=0.9`, for a run with these classes.

    Raises:
        UsageError: A metric or class is unknown, a minimum is not from 0 to 1, or the metric is always 1.
    """
    text = names.nfc(text)
    parsed, end = [], 0
    for match in re.finditer(r"\s*(\w+)(\[.*?\])?\s*=\s*([^,]*?)\s*(?:,|$)", text):
        name, of_class, minimum = match.groups(default="")
        if match.start() != end or name not in (OF_CLASS if of_class else WHOLE):
            break
        try:
            least = float(minimum)
        except ValueError:
            break
        if not 0 <= least <= 1:
            break
        if of_class and of_class[1:-1] not in class_names:
            raise UsageError(f"--fail-under {name}{of_class}: no such class; the classes are {', '.join(class_names)}")
        if name.startswith("top") and int(name[3:]) >= len(class_names):
            raise UsageError(f"--fail-under {name}: always 1 with {len(class_names)} classes; choose another metric")
        parsed.append(Gate(name + of_class, least))
        end = match.end()
    if not parsed or end != len(text):
        raise UsageError(
            f"--fail-under {text}: write METRIC=MIN, separated by commas; metrics are {', '.join(WHOLE)}, and for one class "
            f"{', '.join(f'{name}[CLASS]' for name in OF_CLASS)}; MIN is 0 to 1"
        )
    return parsed
