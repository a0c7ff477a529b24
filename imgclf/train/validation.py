"""Context for the accuracies on the validation images: baseline, uncertainty, groups."""

import collections

from imgclf.evaluation import baseline, grouped
from imgclf.evaluation.intervals import wilson_interval
from imgclf.models.bundle import Bundle
from imgclf.train.state import TrainingState


def compare_with_baseline(state: TrainingState, accuracy: float) -> baseline.Baseline:
    """Return the baseline on the validation images, compared with an accuracy."""
    files = state.prepared.files
    train, val = (collections.Counter(name.split("/", 1)[0] for name in files[subset]) for subset in ("train", "val"))
    name = baseline.largest(train)
    return baseline.baseline(name, val[name], round(accuracy * val.total()), val.total())


def interval(state: TrainingState, accuracy: float) -> tuple[float, float]:
    """Return the 95% Wilson interval of an accuracy on the validation images."""
    count = len(state.prepared.files["val"])
    return wilson_interval(round(accuracy * count), count)


def groups(state: TrainingState) -> grouped.Groups:
    """Count the groups of the validation images."""
    group_of = {row.path: row.group for row in state.manifest.rows}
    return grouped.count(group_of.get(path, path) for path in state.prepared.files["val"].values())


def about(state: TrainingState) -> list[str]:
    """Return the lines printed before training that put the accuracies of the epochs in context."""
    low, high = interval(state, 0.5)
    note = grouped.note(groups(state), "validation intervals")
    count = len(state.prepared.files["val"])
    return [
        f"validation {compare_with_baseline(state, 0.0).words}, the largest class in training",
        f"an accuracy on {count:,} images is uncertain by up to ±{(high - low) / 2:.3f} (95% interval)",
        *([note] if note else []),
    ]


def warn(state: TrainingState, finished: Bundle) -> None:
    """Send the listener a warning if the best epoch is not better than the baseline."""
    scores = finished.info.metrics
    score = "validation accuracy", scores.val_accuracy, scores.val_interval
    if warning := scores.val_baseline.warning(*score, finished.info.next_step):
        state.listener.note(warning)
