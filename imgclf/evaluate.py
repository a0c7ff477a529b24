"""`imgclf evaluate`: how good a finished run is on pictures it was not fitted to, written into the run."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf import dataset
from imgclf.base import journal
from imgclf.base.config import Part
from imgclf.base.errors import ImageError, ImgclfError, UsageError
from imgclf.base.folders import check_data_folder
from imgclf.base.parallel import ordered_map
from imgclf.bundle import Bundle
from imgclf.dataset import Sample
from imgclf.learning import metrics
from imgclf.pixels import images

MANIFEST = "split.csv"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of one run on one set of pictures, by its calibrated probabilities; NaN where one is undefined.

    interval: 95% Wilson interval of the accuracy; those of F1 by bootstrap. top: share of pictures whose class is among
    the 2, 3 or 5 likeliest, where there are more classes. auc, average_precision: mean over classes, one against
    the rest; of the second of two classes. calibration_error: expected, of 15 bins, and what it was before calibration.
    confusion: true x predicted.
    """

    run: str
    on: str  # which pictures, in words
    name: str  # short name of the same, as in the file names
    class_names: tuple[str, ...]
    pictures: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    top: dict[int, float]
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
    predictions: tuple[dict[str, Any], ...]  # path, label, predicted, probability of the predicted class
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    unwritten: str = ""  # why the results could not be written into the run

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the single predictions, which have a CSV file of their own."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "predictions"}
        values = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
        return values | {
            "top": {str(k): share for k, share in self.top.items()},
            "classes": [dataclasses.asdict(score) for score in self.classes],
            "confusion": self.confusion.tolist(),
        }

    def figure(self, name: str) -> float:
        """What a gate asks for by this name, as recall[cat]."""
        name, _bracket, rest = name.partition("[")
        if rest:
            return float(getattr(self.classes[self.class_names.index(rest[:-1])], name))
        if name.startswith("top"):
            return self.top[int(name[3:])]
        return float(getattr(self, "macro_f1" if name == "f1" else name))


WHOLE = ("accuracy", "f1", "weighted_f1", "auc", "average_precision", "top2", "top3", "top5")  # what a gate may ask for
OF_CLASS = ("precision", "recall", "f1")


@dataclasses.dataclass(frozen=True)
class Gate:
    """The least that a figure must be; `name` as it was asked for, such as recall[cat]."""

    name: str
    least: float


def gates(text: str, class_names: Sequence[str]) -> list[Gate]:
    """`accuracy=0.95,f1=0.9,recall[cat]=0.9` as gates for a run of these classes; raises UsageError for what is none."""
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

    Other folders must have class folders of the same names; pictures the run was trained on are reported as such. Damaged
    pictures are left out and named. Raises ImgclfError when there is nothing to score.
    """
    root = data or Path(bundle.info["data"]["path"])
    if not (bundle.path / MANIFEST).exists():
        raise ImgclfError(f"{bundle.path / MANIFEST}: broken bundle, the file is missing; copy the run folder again or retrain")
    manifest = dataset.read_manifest(bundle.path / MANIFEST)
    if manifest.hash != bundle.info["data"]["split_hash"]:
        raise ImgclfError(f"{bundle.path / MANIFEST}: broken bundle, not the split that was written; copy the run folder again")
    if data is None and not root.is_dir():
        raise ImgclfError(f"{root}: the run's data folder is no longer there; give the data folder: imgclf evaluate DATA")
    check_data_folder(root)
    if _is_own(root, manifest, bundle):
        samples, name, notes = _own_part(root, manifest, part)
        left_out: list[tuple[str, str]] = []
        on = f"the {name} part of the run's own split"
    else:
        if part is not None and not dataset.part_folders(root):
            raise ImgclfError(f"{root}: not the data this run was trained on, and it has no {part} folder; leave --split out")
        samples, name, left_out = _other_data(root, bundle, part)
        notes = []
        on = f"all pictures of {root}" if part is None else f"the {part} folder of {root}"
    if name != "train":
        notes += _seen_in_training(root, samples, manifest)
    if not samples:
        raise ImgclfError(f"{root}: no picture to evaluate in {on}")

    def one(sample: Sample) -> NDArray[np.float64] | ImageError:
        try:
            return bundle.probability(images.load(bundle.recipe, root / sample.path))
        except ImageError as error:
            return error

    rows, true, predictions = [], [], []
    for done, (sample, answer) in enumerate(zip(samples, ordered_map(one, samples), strict=True), 1):
        if isinstance(answer, ImageError):
            left_out.append((sample.path, str(answer)))
        else:
            rows.append(answer)
            true.append(bundle.class_names.index(sample.label or ""))
            best = int(answer.argmax())
            predictions.append(
                {"path": sample.path, "label": sample.label, "predicted": bundle.class_names[best], "probability": answer[best]}
            )
        if progress:
            progress(done, len(samples))
    if not rows:
        raise ImgclfError(f"{root}: none of the {len(samples)} pictures in {on} can be read; run `imgclf clean`")
    truth, probabilities = np.array(true, np.int64), np.array(rows)
    classes = len(bundle.class_names)
    matrix = metrics.confusion(truth, probabilities.argmax(axis=1), classes)
    macro, weighted = (float(value) for value in metrics.f1_scores(matrix))
    macro_interval, weighted_interval = metrics.bootstrap_f1(matrix)
    evaluation = Evaluation(
        run=str(bundle.path),
        on=on,
        name=name,
        class_names=bundle.class_names,
        pictures=len(rows),
        loss=metrics.cross_entropy(truth, probabilities),
        accuracy=metrics.accuracy(matrix),
        interval=metrics.wilson_interval(int(np.trace(matrix)), len(rows)),
        top={k: metrics.top_k(truth, probabilities, k) for k in (2, 3, 5) if k < classes},
        macro_f1=macro,
        macro_f1_interval=macro_interval,
        weighted_f1=weighted,
        weighted_f1_interval=weighted_interval,
        auc=metrics.one_against_rest(truth, probabilities, metrics.roc_auc),
        average_precision=metrics.one_against_rest(truth, probabilities, metrics.average_precision),
        calibration_error=metrics.calibration_error(truth, probabilities),
        uncalibrated_error=metrics.calibration_error(truth, metrics.tempered(probabilities, 1 / bundle.temperature)),
        temperature=bundle.temperature,
        classes=tuple(metrics.class_scores(matrix, bundle.class_names)),
        confusion=matrix,
        predictions=tuple(predictions),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )
    try:
        write(evaluation, bundle.path)
    except ImgclfError as error:
        return dataclasses.replace(evaluation, unwritten=str(error))  # the figures are worth having all the same
    return evaluation


def write(evaluation: Evaluation, run_dir: Path) -> None:
    """Leave `evaluation-<name>.json`, `predictions-<name>.csv` and `confusion-<name>.png` in a run folder."""
    from imgclf.display import plots, report

    try:
        journal.write_json(run_dir / f"evaluation-{evaluation.name}.json", evaluation.to_dict())
        report.write_csv(evaluation.predictions, run_dir / f"predictions-{evaluation.name}.csv")
        title = f"{evaluation.name}: {evaluation.accuracy:.1%} of {evaluation.pictures} pictures right"
        figure = plots.confusion(evaluation.confusion, evaluation.class_names, title)
        plots.save(figure, run_dir / f"confusion-{evaluation.name}.png")
    except OSError as error:
        raise ImgclfError(f"{run_dir}: the results cannot be written: {error.strerror or error}") from error


def _is_own(root: Path, manifest: dataset.Manifest, bundle: Bundle) -> bool:
    """Whether a folder is the run's data: the recorded one, or one that holds most of the split's files under their paths."""
    if root.resolve() == Path(bundle.info["data"]["path"]):
        return True
    some = manifest.rows[:: max(1, len(manifest.rows) // 50)]
    hashes = dataset.content_hashes(root, [row.path for row in some if (root / row.path).is_file()])
    return 2 * sum(1 for row in some if hashes.get(row.path) == row.sha256) > len(some)


def _own_part(root: Path, manifest: dataset.Manifest, part: Part | None) -> tuple[list[Sample], str, list[str]]:
    notes = []
    has_test = any(row.split == "test" for row in manifest.rows)
    if part is None:
        part = "test" if has_test else "val"
        if not has_test:
            notes.append("there is no test part; the validation part chose the best epoch, so this score flatters the run")
    if part == "train":
        notes.append("these pictures trained the network: the score says how well it remembers, not how good it is")
    rows = [row for row in manifest.rows if row.split == part]
    samples = [Sample(row.path, row.label) for row in rows if (root / row.path).exists()]
    gone = len(rows) - len(samples)
    if gone:
        notes.append(f"pictures of the {part} part that are no longer in {root}: {gone} of {len(rows)}")
    hashes = dataset.content_hashes(root, [sample.path for sample in samples])
    changed = [row.path for row in rows if row.path in hashes and hashes[row.path] != row.sha256]
    if changed:
        notes.append(f"pictures that have changed since the run's split was made: {len(changed)}, first {changed[0]}")
    known = {row.path for row in manifest.rows}
    others = sum(1 for file in dataset.scan(root) if file.label and not file.ignored and file.path not in known)
    if others:
        notes.append(f"files in {root} that are not in the run's split and were not scored: {others}")
    return samples, part, notes


def _other_data(root: Path, bundle: Bundle, part: Part | None) -> tuple[list[Sample], str, list[tuple[str, str]]]:
    everything, left_out = dataset.index(root)
    unknown = sorted(set(everything.class_names) - set(bundle.class_names))
    if unknown:
        raise ImgclfError(f"{root}: class {unknown[0]} is unknown to this run, which knows {', '.join(bundle.class_names)}")
    folders = dataset.part_folders(root)
    samples = [s for s in everything.samples if part is None or folders[s.path.split("/", 1)[0]] == part]
    name = "other-" + re.sub(r"[^\w.-]+", "-", root.resolve().name)
    return samples, name if part is None else f"{name}-{part}", left_out


def _seen_in_training(root: Path, samples: list[Sample], manifest: dataset.Manifest) -> list[str]:
    hashes = dataset.content_hashes(root, [sample.path for sample in samples])
    trained = {row.sha256 for row in manifest.rows if row.split == "train"}
    seen = sum(1 for digest in hashes.values() if digest in trained)
    if not seen:
        return []
    return [f"pictures that were in the run's training part: {seen} of {len(samples)}; the score flatters the run"]
