"""What a run says of one image, and where it looks: shared by `predict`, `serve` and `evaluate`, so that all say the same."""

import dataclasses
from typing import Any

from imgclf.core.errors import ImageError, ImgclfError, UsageError
from imgclf.core.files.links import is_component
from imgclf.evaluation import saliency
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import decode, preprocess
from imgclf.images.sources import Source
from imgclf.models.bundle import Bundle

UNKNOWN = "unknown"  # the label of what the run is not sure enough of


@dataclasses.dataclass(frozen=True)
class Place:
    """Which of all inputs a share's record is about. position: from 0 on; inputs: how many there are, in its last record."""

    shard: int
    shards: int
    position: int
    inputs: int | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the run says of one input. top: the likeliest classes with their probabilities; error: why there is no answer.

    place: in what one share of several printed. is_file: whether the input is the path of a file; what came from an archive may
    only be called like one.
    """

    input: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    place: Place | None = None
    is_file: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON has it."""
        record = {
            "input": self.input,
            "label": self.label,
            "probability": self.probability,
            "top": [{"label": label, "probability": probability} for label, probability in self.top],
            "error": self.error,
        }
        return record | ({"place": {**dataclasses.asdict(self.place), "file": self.is_file}} if self.place else {})

    @staticmethod
    def from_dict(record: dict[str, Any]) -> "Prediction":
        """A record as it was printed. Raises KeyError, TypeError or ValueError for anything else: its labels become folders."""
        top = tuple((str(one["label"]), float(one["probability"])) for one in record["top"])
        place = dict(record.get("place") or {})
        is_file = bool(place) and place.pop("file") is True
        where = Place(**place) if place else None
        texts, label = (record["input"], record["label"] or "", record["error"] or ""), record["label"]
        if not all(isinstance(text, str) for text in texts) or not isinstance(record["probability"] or 0.0, float | int):
            raise TypeError("a value of another type")
        if label is not None and not (is_component(label) and not label.startswith(".")):
            raise ValueError(f"{label[:80]!r} is no name of a class")
        if where and not (
            _are_whole(where.shard, where.shards, where.position, where.inputs or 0) and 1 <= where.shard <= where.shards
        ):
            raise ValueError("the numbers of the share are wrong")
        return Prediction(record["input"], label, record["probability"], top, record["error"], where, is_file)


def _are_whole(*values: object) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def predict_image(bundle: Bundle, source: Source, *, top: int = 1, threshold: float = 0.0) -> Prediction:
    """The record of one image, whatever happens to it.

    threshold: the label of what is less probable is `unknown`; its probability is told all the same.
    """
    is_file = source.file is not None
    try:
        probabilities = bundle.probability(preprocess.apply(bundle.preprocessing, source.pixels()))
    except ImageError as error:
        return Prediction(source.name, None, None, (), str(error), is_file=is_file)
    ranked = sorted(zip(bundle.class_names, probabilities, strict=True), key=lambda pair: -pair[1])
    pairs = tuple((label, float(probability)) for label, probability in ranked[:top])
    label = pairs[0][0] if pairs[0][1] >= threshold else UNKNOWN
    return Prediction(source.name, label, pairs[0][1], pairs, is_file=is_file)


def threshold(bundle: Bundle, text: str) -> tuple[float, str]:
    """(the least probability of an answer, what is to be said of it) for `0.8` or `auto:0.99`.

    The second: the lowest from which answers were right so often on the validation images. Raises UsageError for another
    text, and ImgclfError where no probability was enough.
    """
    automatic, wish = text.startswith("auto:"), text.removeprefix("auto:")
    try:
        value = float(wish)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold {text}: give a probability from 0 to 1, or auto: and an accuracy, as auto:0.99")
    if UNKNOWN in bundle.class_names:
        raise UsageError(f"--threshold: {bundle.path} has a class of the name {UNKNOWN}, which would be mixed up with it")
    if not automatic:
        return value, ""
    points, images = bundle.info.calibration.thresholds, bundle.info.calibration.images
    found = next((point for point in points if point[1] >= value), None)
    if found is None:
        best = f"; {points[-1][1]:.4f} is the most, from {points[-1][0]:.4f} on" if points else ""
        raise ImgclfError(f"--threshold {text}: no probability was enough on the validation images of {bundle.path}{best}")
    answered = round(found[2] * images)
    low, high = wilson_interval(round(found[1] * answered), answered)
    return found[0], (
        f"threshold {found[0]:.4f}: {answered} of {images} validation images reach this confidence, "
        f"and {found[1]:.1%} of these are correct (95% interval {low:.1%} to {high:.1%})"
    )


def overlay(bundle: Bundle, image: decode.Image, shown: decode.Image, label: str | None = None) -> decode.Image:
    """Where a run looks on a decoded image, laid over `shown`, the same at any size; for its answer, or for another class."""
    fed = preprocess.apply(bundle.preprocessing, image)
    target = int(bundle.probability(fed).argmax()) if label is None else bundle.class_names.index(label)
    heat = saliency.occlusion(bundle.probability, fed, target)
    return saliency.overlay(shown, saliency.onto(bundle.preprocessing, heat, *shown.shape[:2]))
