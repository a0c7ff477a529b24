"""The baseline of every accuracy: a classifier that always predicts the largest class of the training images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from imgclf.evaluation.intervals import wilson_interval

Verdict = Literal["better", "not better", "worse"]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Accuracy of a classifier that always predicts `class_name`, and how a score compares with it.

    class_name: the largest class of the training images, as in scikit-learn's DummyClassifier(strategy="most_frequent").
    accuracy: share of this class among the scored images. interval: 95% Wilson interval of it. verdict: `better` if the 95%
    interval of the score is above the baseline accuracy, `worse` if it is below, else `not better` (not significantly).
    """

    class_name: str
    accuracy: float
    interval: tuple[float, float]
    verdict: Verdict

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Baseline":
        """A baseline that was stored as JSON."""
        return Baseline(**{**values, "interval": tuple(values["interval"])})

    @property
    def words(self) -> str:
        """The baseline as one line of text."""
        low, high = self.interval
        return f"baseline {self.accuracy:.4f} (95% interval {low:.3f} to {high:.3f}): always predicting {self.class_name}"

    def warning(self, score: str, accuracy: float, interval: Sequence[float], remedy: str) -> str:
        """A warning for a score that is not better than the baseline, with the next step; "" if it is better.

        score: name of the score, such as "validation accuracy". remedy: the next step, as a clause.
        """
        if self.verdict == "better":
            return ""
        if self.accuracy == 1:
            return (
                f"Warning: all scored images are of class {self.class_name}, the largest in training, so always predicting it "
                "is always correct; score images of every class"
            )
        if accuracy > self.accuracy:
            remedy = "score more images" if accuracy == 1 else f"score more images, or {remedy}"
        if self.accuracy > 0.5:
            remedy += "; with uneven classes, look at F1 and the recall of each class"
        low, high = interval
        how = "worse than" if self.verdict == "worse" else "not significantly better than"
        return (
            f"Warning: {score} {accuracy:.4f} ({low:.3f} to {high:.3f}) is {how} the baseline: always predicting "
            f"{self.class_name} scores {self.accuracy:.4f} on the same images; {remedy}"
        )


def largest(counts: Mapping[str, int]) -> str:
    """The class with the most images; the first by name among equal ones, as in scikit-learn."""
    return max(sorted(counts), key=lambda name: counts[name])


def baseline(class_name: str, of_class: int, right: int, total: int) -> Baseline:
    """The baseline on `total` images, `of_class` of them of `class_name`, compared with a score of `right` correct images."""
    share = of_class / total if total else 0.0
    low, high = wilson_interval(right, total)
    verdict: Verdict = "better" if low > share else "worse" if high < share else "not better"
    return Baseline(class_name, share, wilson_interval(of_class, total), verdict)
