"""The baseline for every accuracy: a classifier that always predicts the largest class of the training images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from imgclf.evaluation.intervals import wilson_interval

Verdict = Literal["better", "not better", "worse"]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Accuracy of a classifier that always predicts `class_name`, and how the model's score compares with it.

    Attributes:
        class_name: largest class of the training images, as in scikit-learn's DummyClassifier(strategy="most_frequent").
        accuracy: fraction of the scored images that are of this class.
        interval: 95% Wilson interval of `accuracy`.
        verdict: `better` if the 95% interval of the model's score is above `accuracy`, `worse` if it is below, and
            `not better` (not significantly) if it contains `accuracy`.
    """

    class_name: str
    accuracy: float
    interval: tuple[float, float]
    verdict: Verdict

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Baseline":
        """Return a baseline from its JSON object."""
        return Baseline(**{**values, "interval": tuple(values["interval"])})

    @property
    def words(self) -> str:
        """The baseline as one line of text."""
        low, high = self.interval
        return f"baseline {self.accuracy:.4f} (95% interval {low:.3f} to {high:.3f}): always predicting {self.class_name}"

    def warning(self, score: str, accuracy: float, interval: Sequence[float], remedy: str) -> str:
        """Return a warning with the next step if a score is not better than the baseline, else "".

        Args:
            score: name of the score, such as "validation accuracy".
            accuracy: its value.
            interval: its 95% interval, (low, high).
            remedy: the next step, as an imperative clause.
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
            remedy += "; with imbalanced classes, check F1 and the recall of each class"
        low, high = interval
        comparison = "worse than" if self.verdict == "worse" else "not significantly better than"
        return (
            f"Warning: {score} {accuracy:.4f} ({low:.3f} to {high:.3f}) is {comparison} the baseline: always predicting "
            f"{self.class_name} scores {self.accuracy:.4f} on the same images; {remedy}"
        )


def largest(counts: Mapping[str, int]) -> str:
    """Return the class with the most images. Of equally large classes, return the first by name, as scikit-learn does."""
    return max(sorted(counts), key=lambda name: counts[name])


def baseline(class_name: str, of_class: int, correct: int, total: int) -> Baseline:
    """Compute the baseline on a set of images and compare the model's score with it.

    Args:
        class_name: largest class of the training images.
        of_class: number of scored images of that class.
        correct: number of scored images that the model classifies correctly.
        total: number of scored images.
    """
    accuracy = of_class / total if total else 0.0
    low, high = wilson_interval(correct, total)
    verdict: Verdict = "better" if low > accuracy else "worse" if high < accuracy else "not better"
    return Baseline(class_name, accuracy, wilson_interval(of_class, total), verdict)
