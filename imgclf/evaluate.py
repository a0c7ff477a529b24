"""`imgclf evaluate`: how good a finished run is on pictures it was not fitted to, written into the run."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core import names
from imgclf.core.config import Part
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic
from imgclf.core.files.state_folder import check_output
from imgclf.core.remedies import why
from imgclf.data import scoring
from imgclf.evaluation import baseline, calibration, grouped, metrics, slices
from imgclf.evaluation.baseline import Baseline
from imgclf.evaluation.grouped import Groups
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import decode
from imgclf.models import evaluations, prediction
from imgclf.models.bundle import Bundle
from imgclf.reports import evaluation_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of one run on one set of pictures, by its calibrated probabilities; NaN where one is undefined.

    interval: 95% Wilson interval of the accuracy. F1 has bootstrap intervals. baseline: always predict the largest class of the
    training images; scored on the same images. groups: of these images; None if they are not from the run's own split. top:
    top-2, top-3 and top-5 accuracy, for fewer than all classes, with Wilson intervals. auc, average_precision: one-versus-rest
    means over the classes with images; with two classes, those of the second. calibration_error: expected calibration error in
    15 bins, also before calibration. confusion: true x predicted.
    """

    run: str
    data: str
    on: str  # which pictures, in words
    name: str  # short name of the same, as in the file names
    class_names: tuple[str, ...]
    pictures: int
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
    answers: scoring.Answers
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    unwritten: str = ""  # why the results could not be written into the run

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the single predictions, which have a CSV file of their own."""
        without = ("predictions", "answers")
        values: dict[str, Any] = {"schema": "evaluate/1"}
        values |= {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in without}
        values = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
        return values | {
            "baseline": dataclasses.asdict(self.baseline),
            "groups": None if self.groups is None else dataclasses.asdict(self.groups),
            "top": {str(k): share for k, share in self.top.items()},
            "top_intervals": {str(k): interval for k, interval in self.top_intervals.items()},
            "classes": [dataclasses.asdict(score) for score in self.classes],
            "confusion": self.confusion.tolist(),
            "slices": [dataclasses.asdict(one) for one in self.slices],
        }

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The wrong predictions, the surest first."""
        wrong = [one for one in self.predictions if one["predicted"] != one["label"]]
        return sorted(wrong, key=lambda one: -one["probability"])

    def figure(self, name: str) -> float:
        """What a gate asks for by this name, as recall[cat]."""
        name, _bracket, rest = name.partition("[")
        if rest:
            return float(getattr(self.classes[self.class_names.index(rest[:-1])], name))
        if name.startswith("top"):
            return self.top[int(name[3:])]
        return float(getattr(self, "macro_f1" if name == "f1" else name))

    def between(self, name: str) -> tuple[float, float] | None:
        """The 95% interval of this metric; None if there is none yet."""
        name, _bracket, rest = name.partition("[")
        if rest:
            score = self.classes[self.class_names.index(rest[:-1])]
            return {"precision": score.precision_interval, "recall": score.recall_interval}.get(name)
        if name.startswith("top"):
            return self.top_intervals[int(name[3:])]
        whole = {"accuracy": self.interval, "f1": self.macro_f1_interval, "weighted_f1": self.weighted_f1_interval}
        return whole.get(name)


WHOLE = ("accuracy", "f1", "weighted_f1", "auc", "average_precision", "top2", "top3", "top5")  # what a gate may ask for
OF_CLASS = ("precision", "recall", "f1")


@dataclasses.dataclass(frozen=True)
class Gate:
    """The least that a figure must be; `name` as it was asked for, such as recall[cat]."""

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
            f"--fail-under {text}: write FIGURE=LEAST, with commas between; figures are {', '.join(WHOLE)}, and of a class "
            f"{', '.join(f'{name}[CLASS]' for name in OF_CLASS)}; the least is 0 to 1"
        )
    return found


def evaluate(
    bundle: Bundle,
    data: Path | None = None,
    part: Part | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a run on a part of its own split (the test part unless told otherwise), or on another data folder.

    Which, `scoring.pictures` says. Damaged pictures are left out and named. Raises ImgclfError when there is nothing to score.
    """
    on = scoring.pictures(bundle, data, part)
    found = scoring.answers([bundle], on, progress)
    truth, probabilities = found.true, found.probabilities[0]
    predicted = probabilities.argmax(axis=1)
    classes = len(bundle.class_names)
    matrix = metrics.confusion(truth, predicted, classes)
    right = int(np.trace(matrix))
    interval = wilson_interval(right, len(truth))
    top = {k: metrics.top_k(truth, probabilities, k) for k in (2, 3, 5) if k < classes}
    absent = metrics.note_on_absent(matrix.sum(axis=1), bundle.class_names)
    trivial, groups = scoring.beside(bundle, found, right), scoring.groups(on, found)
    warning = trivial.warning("accuracy", right / len(truth), interval, baseline.remedy(bundle.info))
    macro, weighted = (float(value) for value in metrics.f1_scores(matrix))
    macro_interval, weighted_interval = metrics.bootstrap_f1(matrix)
    evaluation = Evaluation(
        run=str(bundle.path),
        data=str(on.root.resolve()),
        on=on.on,
        name=_name(bundle.path, on),
        class_names=bundle.class_names,
        pictures=len(truth),
        loss=metrics.cross_entropy(truth, probabilities),
        accuracy=metrics.accuracy(matrix),
        interval=interval,
        baseline=trivial,
        groups=groups,
        top=top,
        top_intervals={k: wilson_interval(round(share * len(truth)), len(truth)) for k, share in top.items()},
        macro_f1=macro,
        macro_f1_interval=macro_interval,
        weighted_f1=weighted,
        weighted_f1_interval=weighted_interval,
        auc=metrics.one_against_rest(truth, probabilities, metrics.roc_auc),
        average_precision=metrics.one_against_rest(truth, probabilities, metrics.average_precision),
        calibration_error=calibration.calibration_error(truth, probabilities),
        uncalibrated_error=calibration.calibration_error(truth, calibration.tempered(probabilities, 1 / bundle.temperature)),
        temperature=bundle.temperature,
        classes=tuple(metrics.class_scores(matrix, bundle.class_names)),
        confusion=matrix,
        slices=tuple(slices.slices(predicted == truth, _grouped(found))),
        predictions=tuple(
            {
                "path": sample.path,
                "label": sample.label,
                "predicted": bundle.class_names[best],
                "probability": float(row[best]),
                **dict(zip(scoring.MEASURES, measured.round(4).tolist(), strict=True)),
            }
            for sample, best, row, measured in zip(found.samples, predicted, probabilities, found.measures, strict=True)
        ),
        answers=found,
        left_out=found.left_out,
        notes=tuple(note for note in (*on.notes, absent, grouped.note(groups, "the intervals"), warning) if note),
    )
    try:
        write(evaluation, bundle.path)
    except ImgclfError as error:
        return dataclasses.replace(evaluation, unwritten=str(error))  # the figures are worth having all the same
    return evaluation


def _name(run_dir: Path, on: scoring.Pictures) -> str:
    """What the results are called in the run's folder; with a number where another folder of the same name has been scored."""
    name, number = on.name, 1
    while name.startswith("other-") and _scored(run_dir, name) not in (None, on.root.resolve()):
        number += 1
        name = f"{on.name}-{number}"
    return name


def _scored(run_dir: Path, name: str) -> Path | None:
    """The data folder of an earlier evaluation."""
    try:
        return Path(evaluations.read(run_dir / f"evaluation-{name}.json", ("data",))["data"])
    except ImgclfError:
        return None


def _grouped(found: scoring.Answers) -> dict[str, NDArray[np.float64] | list[str]]:
    """What slices are made by: the measures, and the folder in which a picture lies within its class."""
    columns: dict[str, NDArray[np.float64] | list[str]] = dict(zip(scoring.MEASURES, found.measures.T, strict=True))
    folders = [PurePosixPath(sample.path).parent.parts for sample in found.samples]
    columns["folder"] = [
        # A manifest may call a picture otherwise than its folder does; then the whole way is told.
        "/".join(parts[parts.index(sample.label) + 1 :] if sample.label in parts else parts) or "."
        for parts, sample in zip(folders, found.samples, strict=True)
    ]
    return columns


def write(evaluation: Evaluation, run_dir: Path) -> None:
    """Leave evaluation-<name>.json, predictions-<name>.csv, confusion-<name>.png and calibration-<name>.png in a run folder."""
    from imgclf.reports import plots, tables

    try:
        atomic.write_json(run_dir / f"evaluation-{evaluation.name}.json", evaluation.to_dict())
        tables.write_csv(evaluation.predictions, run_dir / f"predictions-{evaluation.name}.csv")
        low, high = evaluation.interval
        title = (
            f"{evaluation.name}: {evaluation.accuracy:.1%} of {evaluation.pictures} images correct ({low:.1%} to {high:.1%})\n"
            f"always {evaluation.baseline.class_name}: {evaluation.baseline.accuracy:.1%}"
        )
        figure = plots.confusion(evaluation.confusion, evaluation.class_names, title)
        plots.save(figure, run_dir / f"confusion-{evaluation.name}.png")
        plots.save(_calibration(evaluation), run_dir / f"calibration-{evaluation.name}.png")
    except OSError as error:
        raise ImgclfError(f"{run_dir}: the results cannot be written: {why(error, 'copy the run elsewhere')}") from error


def _calibration(evaluation: Evaluation) -> "Figure":
    from imgclf.reports import plots

    true, probabilities = evaluation.answers.true, evaluation.answers.probabilities[0]
    bins, curve = calibration.reliability(true, probabilities), calibration.risk_coverage(true, probabilities)
    of_bins = _wilson(bins[0], bins[2])
    of_curve = _wilson(curve[1] * len(true), curve[2])
    return plots.calibration(bins, curve, (of_bins, of_curve))


def _wilson(counts: NDArray[Any], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) 95% Wilson intervals of shares of counts; 0 to 1 for an undefined share."""
    pairs = zip(np.rint(counts).astype(int).tolist(), np.nan_to_num(shares).tolist(), strict=True)
    return np.array([wilson_interval(round(share * count), count) for count, share in pairs])


def check_page(path: Path, bundle: Bundle, data: Path | None) -> None:
    """Refuse a place for the page before anything is computed."""
    check_output(path, data or Path(bundle.info["data"]["path"]), ".html", evaluation_page.START, "--html")


def write_page(evaluation: Evaluation, bundle: Bundle, path: Path) -> None:
    """A self-contained page: figures, confusion matrix, classes, calibration, slices, the worst errors with their pictures."""
    from imgclf.reports import plots

    drawn = {"calibration": plots.png(_calibration(evaluation))}
    if len(evaluation.class_names) > evaluation_page.MOST_CLASSES:
        drawn["confusion"] = plots.png(plots.confusion(evaluation.confusion, evaluation.class_names, "confusion"))
    about = (
        f"{bundle.info['model']} at {bundle.recipe.width} x {bundle.recipe.height} pixels, trained "
        f"{bundle.info['finished'][:16].replace('T', ' ')} UTC"
    )

    def overlay(picture: decode.Image, small: decode.Image, label: str) -> decode.Image:
        return prediction.look(bundle, picture, small, label)

    evaluation_page.write(path, Path(evaluation.data), evaluation.to_dict(), evaluation.errors, about, drawn, overlay)
