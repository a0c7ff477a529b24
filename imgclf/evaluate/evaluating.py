"""`imgclf evaluate`: score a finished run on images that it was not trained on, and write the scores into the run."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core import names
from imgclf.core.config import Subset
from imgclf.core.errors import ImgclfError
from imgclf.core.files.paths import StrPath
from imgclf.data import scoring
from imgclf.evaluate.scores import Evaluation
from imgclf.evaluate.writing import write
from imgclf.evaluation import calibration, grouped, metrics, slices
from imgclf.evaluation.intervals import wilson_interval
from imgclf.models import evaluations
from imgclf.models.bundle import Bundle


def evaluate(
    bundle: Bundle,
    data: StrPath | None = None,
    subset: Subset | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a run on a subset of its own split (by default the test set), or on another data folder.

    The results are written into the run's folder. Damaged images are skipped; the result lists them with the reasons.

    Args:
        data: See `scoring.images` for the images that `data` and `subset` select.
        progress: Called with the number of images so far and the total.

    Raises:
        ImgclfError: There are no images to score.
    """
    data = None if data is None else Path(data)
    on = scoring.images(bundle, data, subset)
    scored = scoring.score([bundle], on, progress)
    truth, probabilities = scored.true, scored.probabilities[0]
    predicted = probabilities.argmax(axis=1)
    classes = len(bundle.class_names)
    matrix = metrics.confusion(truth, predicted, classes)
    right = int(np.trace(matrix))
    interval = wilson_interval(right, len(truth))
    top = {k: metrics.top_k_accuracy(truth, probabilities, k) for k in (2, 3, 5) if k < classes}
    absent = metrics.note_on_absent_classes(matrix.sum(axis=1), bundle.class_names)
    trivial, groups = scoring.baseline_of(bundle, scored, right), scoring.groups(on, scored)
    warning = trivial.warning("accuracy", right / len(truth), interval, bundle.info.next_step)
    macro, weighted = (float(value) for value in metrics.f1_scores(matrix))
    macro_interval, weighted_interval = metrics.bootstrap_f1(matrix)
    evaluation = Evaluation(
        run=str(bundle.path),
        data=str(on.root.resolve()),
        on=on.on,
        name=_name(bundle.path, on),
        class_names=bundle.class_names,
        images=len(truth),
        loss=metrics.cross_entropy(truth, probabilities),
        accuracy=metrics.accuracy(matrix),
        interval=interval,
        baseline=trivial,
        groups=groups,
        top=top,
        top_intervals={k: wilson_interval(round(value * len(truth)), len(truth)) for k, value in top.items()},
        macro_f1=macro,
        macro_f1_interval=macro_interval,
        weighted_f1=weighted,
        weighted_f1_interval=weighted_interval,
        auc=metrics.one_versus_rest(truth, probabilities, metrics.roc_auc),
        average_precision=metrics.one_versus_rest(truth, probabilities, metrics.average_precision),
        calibration_error=calibration.calibration_error(truth, probabilities),
        uncalibrated_error=calibration.calibration_error(
            truth, calibration.apply_temperature(probabilities, 1 / bundle.temperature)
        ),
        temperature=bundle.temperature,
        classes=tuple(metrics.class_scores(matrix, bundle.class_names)),
        confusion=matrix,
        slices=tuple(slices.slices(predicted == truth, _grouped(scored))),
        predictions=tuple(_predictions(bundle, scored)),
        scored=scored,
        skipped=scored.skipped,
        notes=tuple(note for note in (*on.notes, absent, grouped.note(groups, "the intervals"), warning) if note),
    )
    return _written(evaluation, bundle.path)


def _predictions(bundle: Bundle, scored: scoring.Scored) -> Iterator[dict[str, Any]]:
    """Return the records of `Evaluation.predictions`: label, prediction and measures of each image."""
    for sample, row, measured in zip(scored.samples, scored.probabilities[0], scored.measures, strict=True):
        best = int(row.argmax())
        yield {
            "path": sample.path,
            "label": sample.label,
            "predicted": bundle.class_names[best],
            "probability": float(row[best]),
            **dict(zip(scoring.MEASURES, measured.round(4).tolist(), strict=True)),
        }


def _written(evaluation: Evaluation, run_dir: Path) -> Evaluation:
    """Write the evaluation into the run. If that fails, the returned evaluation contains the reason."""
    try:
        write(evaluation, run_dir)
    except ImgclfError as error:
        return dataclasses.replace(evaluation, unwritten=str(error))
    return evaluation


def _name(run_dir: Path, on: scoring.Images) -> str:
    """Return the name of the results in the run's folder. It gets a number if another data folder with that name was scored."""

    def is_taken(name: str) -> bool:
        return name.startswith("other-") and _scored_folder(run_dir, name) not in (None, on.root.resolve())

    return names.free(on.name, "", is_taken)


def _scored_folder(run_dir: Path, name: str) -> Path | None:
    """Return the data folder of an earlier evaluation; None if there is none."""
    try:
        return Path(evaluations.read(run_dir / f"evaluation-{name}.json", ("data",))["data"])
    except ImgclfError:
        return None


def _grouped(scored: scoring.Scored) -> dict[str, NDArray[np.float64] | list[str]]:
    """Return the columns that define slices: the measures, and the folder of each image inside its class folder."""
    columns: dict[str, NDArray[np.float64] | list[str]] = dict(zip(scoring.MEASURES, scored.measures.T, strict=True))
    folders = [PurePosixPath(sample.path).parent.parts for sample in scored.samples]
    columns["folder"] = [
        # If the class in the manifest is not a folder of the path, use the whole path.
        "/".join(names[names.index(sample.label) + 1 :] if sample.label in names else names) or "."
        for names, sample in zip(folders, scored.samples, strict=True)
    ]
    return columns
