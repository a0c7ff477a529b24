"""What an audit found."""

import dataclasses
from typing import Any

from imgclf.data import dataset
from imgclf.evaluation.baseline import Baseline

CHECKS = {
    "label": "another class is more likely, by what a classifier says that was not trained on the image",
    "outlier": "unlike every other image of the folder",
    "near-duplicate": "shows nearly the same as another image of the folder",
}


@dataclasses.dataclass(frozen=True)
class Suspect:
    """One finding. score: 0 to 1, how sure. suggestion: the likelier class of a `label`. other: the image it resembles."""

    path: str
    label: str
    check: str
    score: float
    suggestion: str
    detail: str
    other: str = ""


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found. ranked: every image's path, the label most likely to be wrong first."""

    data: str
    model: str
    images: dataset.Dataset
    suspects: tuple[Suspect, ...]
    ranked: tuple[str, ...]
    accuracy: float  # of the held-out classifier, as the labels are
    interval: tuple[float, float]  # 95% Wilson interval of the accuracy
    baseline: Baseline  # baseline on the same images
    skipped: tuple[tuple[str, str], ...]
    note: str = ""  # on shares that were taken up

    def by_check(self) -> dict[str, list[Suspect]]:
        """Suspects of each check, the surest first."""
        return {name: [one for one in self.suspects if one.check == name] for name in CHECKS}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": "audit/1",
            "data": self.data,
            "model": self.model,
            "images": len(self.images.samples),
            "held_out_accuracy": self.accuracy,
            "interval": self.interval,
            "baseline": dataclasses.asdict(self.baseline),
            "suspects": [dataclasses.asdict(one) for one in self.suspects],
            "skipped": [list(item) for item in self.skipped],
        }
