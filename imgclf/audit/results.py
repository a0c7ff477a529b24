"""The result of an audit."""

import dataclasses
from typing import Any

from imgclf.data import dataset
from imgclf.data.checks import AUDIT_CHECKS, Issue
from imgclf.evaluation.baseline import Baseline


@dataclasses.dataclass(frozen=True)
class Audit:
    """The result of an audit. ranked: the paths of all images, the most likely label error first."""

    data: str
    model: str
    images: dataset.Dataset
    issues: tuple[Issue, ...]
    ranked: tuple[str, ...]
    accuracy: float  # of the held-out classifier, measured with the given labels
    interval: tuple[float, float]  # 95% Wilson interval of the accuracy
    baseline: Baseline  # baseline on the same images
    skipped: tuple[tuple[str, str], ...]
    note: str = ""  # on shards that were merged

    def by_check(self) -> dict[str, list[Issue]]:
        """Return the issues by check, in the order found: the most certain first."""
        return {name: [one for one in self.issues if one.check == name] for name in AUDIT_CHECKS}

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "schema": "audit/1",
            "data": self.data,
            "model": self.model,
            "images": len(self.images.samples),
            "held_out_accuracy": self.accuracy,
            "interval": self.interval,
            "baseline": dataclasses.asdict(self.baseline),
            "issues": [dataclasses.asdict(one) for one in self.issues],
            "skipped": [list(item) for item in self.skipped],
        }
