"""The least that metrics must be: `imgclf evaluate --fail-under`."""

import dataclasses
import re
from collections.abc import Sequence

from imgclf.core import names
from imgclf.core.errors import UsageError

WHOLE = ("accuracy", "f1", "weighted_f1", "auc", "average_precision", "top2", "top3", "top5")  # what a gate may ask for
OF_CLASS = ("precision", "recall", "f1")


@dataclasses.dataclass(frozen=True)
class Gate:
    """The minimum of a metric; `name` as it was asked for, such as recall[cat]."""

    name: str
    least: float


def gates(text: str, class_names: Sequence[str]) -> list[Gate]:
    """`accuracy=0.95,f1=0.9,recall[cat]=0.9` as gates for a run of these classes; raises UsageError for what is none."""
    text = names.nfc(text)
    found, end = [], 0
    for match in re.finditer(r"\s*(\w+)(\[.*?\])?\s*=\s*([^,]*?)\s*(?:,|$)", text):
        name, of_class, wish = match.groups(default="")
        if match.start() != end or name not in (OF_CLASS if of_class else WHOLE):
            break
        try:
            least = float(wish)
        except ValueError:
            break
        if not 0 <= least <= 1:
            break
        if of_class and of_class[1:-1] not in class_names:
            raise UsageError(f"--fail-under {name}{of_class}: no such class; there are {', '.join(class_names)}")
        if name.startswith("top") and int(name[3:]) >= len(class_names):
            raise UsageError(f"--fail-under {name}: always 1 with {len(class_names)} classes; it says nothing")
        found.append(Gate(name + of_class, least))
        end = match.end()
    if not found or end != len(text):
        raise UsageError(
            f"--fail-under {text}: write METRIC=MIN, separated by commas; metrics are {', '.join(WHOLE)}, and of a class "
            f"{', '.join(f'{name}[CLASS]' for name in OF_CLASS)}; the least is 0 to 1"
        )
    return found
