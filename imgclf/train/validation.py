"""Context for the accuracies on the validation images: baseline, uncertainty, groups."""

import collections

from imgclf.evaluation import baseline, grouped
from imgclf.evaluation.intervals import wilson_interval
from imgclf.models.bundle import Bundle
from imgclf.train.work import Work


def compare_with_baseline(work: Work, accuracy: float) -> baseline.Baseline:
    """Return the baseline on the validation images, compared with an accuracy."""
    files = work.prepared.files
    train, val = (collections.Counter(name.split("/", 1)[0] for name in files[subset]) for subset in ("train", "val"))
    name = baseline.largest(train)
    return baseline.baseline(name, val[name], round(accuracy * val.total()), val.total())


def interval(work: Work, accuracy: float) -> tuple[float, float]:
    """Return the 95% Wilson interval of an accuracy on the validation images."""
    count = len(work.prepared.files["val"])
    return wilson_interval(round(accuracy * count), count)


def groups(work: Work) -> grouped.Groups:
    """Count the groups of the validation images."""
    group_of = {row.path: row.group for row in work.manifest.rows}
    return grouped.count(group_of.get(path, path) for path in work.prepared.files["val"].values())


def about(work: Work) -> list[str]:
    """Return the lines printed before training that put the accuracies of the epochs in context."""
    low, high = interval(work, 0.5)
    note = grouped.note(groups(work), "validation intervals")
    count = len(work.prepared.files["val"])
    return [
        f"validation {compare_with_baseline(work, 0.0).words}, the largest class in training",
        f"an accuracy on {count:,} images is uncertain by up to ±{(high - low) / 2:.3f} (95% interval)",
        *([note] if note else []),
    ]


def warn(work: Work, finished: Bundle) -> None:
    """Send the listener a warning if the best epoch is not better than the baseline."""
    scores = finished.info.metrics
    score = "validation accuracy", scores.val_accuracy, scores.val_interval
    if warning := scores.val_baseline.warning(*score, finished.info.next_step):
        work.listener.note(warning)
