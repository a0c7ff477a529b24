"""The scores of one run on one set of images."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.data import scoring
from imgclf.evaluation import metrics, slices
from imgclf.evaluation.baseline import Baseline
from imgclf.evaluation.grouped import Groups


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of one run on one set of images, from its calibrated probabilities. Undefined scores are NaN.

    interval: 95% Wilson interval of the accuracy. F1 has bootstrap intervals. baseline: always predict the largest class of the
    training images, scored on the same images. groups: of these images; None if they are not from the run's own split. top:
    top-2, top-3 and top-5 accuracy, if the run has more classes than that, with Wilson intervals. auc, average_precision:
    one-versus-rest means over the classes with images; with two classes, those of the second. calibration_error: expected
    calibration error in 15 bins; uncalibrated_error: the same before calibration. confusion: true x predicted.
    """

    run: str
    data: str
    on: str  # description of the images
    name: str  # short name of the images, used in file names
    class_names: tuple[str, ...]
    images: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    baseline: Baseline
    groups: Groups | None
    top: dict[int, float]
    top_intervals: dict[int, tuple[float, float]]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    weighted_f1: float
    weighted_f1_interval: tuple[float, float]
    auc: float
    average_precision: float
    calibration_error: float
    uncalibrated_error: float
    temperature: float
    classes: tuple[metrics.ClassScore, ...]
    confusion: NDArray[np.int64]
    slices: tuple[slices.Slice, ...]
    predictions: tuple[dict[str, Any], ...]  # path, label, predicted, probability of the predicted class, MEASURES
    scored: scoring.Scored
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    unwritten: str = ""  # why the results could not be written into the run

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON, without the single predictions, which are in a CSV file."""
        omitted = ("predictions", "scored")
        values: dict[str, Any] = {"schema": "evaluate/1"}
        values |= {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in omitted}
        values = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
        return values | {
            "baseline": dataclasses.asdict(self.baseline),
            "groups": None if self.groups is None else dataclasses.asdict(self.groups),
            "top": {str(k): accuracy for k, accuracy in self.top.items()},
            "top_intervals": {str(k): interval for k, interval in self.top_intervals.items()},
            "classes": [dataclasses.asdict(score) for score in self.classes],
            "confusion": self.confusion.tolist(),
            "slices": [dataclasses.asdict(one) for one in self.slices],
        }

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The wrong predictions, by descending confidence."""
        wrong = [one for one in self.predictions if one["predicted"] != one["label"]]
        return sorted(wrong, key=lambda one: -one["probability"])

    def metric(self, name: str) -> float:
        """Return the metric with the name of a gate, for example recall[cat]."""
        name, _bracket, rest = name.partition("[")
        if rest:
            return float(getattr(self.classes[self.class_names.index(rest[:-1])], name))
        if name.startswith("top"):
            return self.top[int(name[3:])]
        return float(getattr(self, "macro_f1" if name == "f1" else name))

    def between(self, name: str) -> tuple[float, float] | None:
        """Return the 95% interval of the metric with the name of a gate; None for metrics without one."""
        name, _bracket, rest = name.partition("[")
        if rest:
            score = self.classes[self.class_names.index(rest[:-1])]
            return {"precision": score.precision_interval, "recall": score.recall_interval}.get(name)
        if name.startswith("top"):
            return self.top_intervals[int(name[3:])]
        whole = {"accuracy": self.interval, "f1": self.macro_f1_interval, "weighted_f1": self.weighted_f1_interval}
        return whole.get(name)
