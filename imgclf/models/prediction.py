"""The prediction of one image, and its saliency overlay. `predict`, `serve` and `evaluate` share them, for equal results."""

import dataclasses
from typing import Any

from imgclf.core.errors import ImageError, ImgclfError, UsageError
from imgclf.core.files.links import is_component
from imgclf.evaluation import saliency
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import decode, preprocess
from imgclf.images.sources import Source
from imgclf.models.bundle import Bundle

UNKNOWN = "unknown"  # the label of predictions below the threshold


@dataclasses.dataclass(frozen=True)
class Place:
    """The position of a shard's record among all inputs.

    shard: from 1 to `shards`. position: from 0. inputs: total number of inputs; only in the last record of a shard.
    """

    shard: int
    shards: int
    position: int
    inputs: int | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The record of one input.

    top: the most probable classes with their probabilities. error: why there is no prediction. place: only in the records of a
    shard. is_file: whether the input is the path of a file. The name of an archive's member may look like one.
    """

    input: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    place: Place | None = None
    is_file: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON."""
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
        """Read the result of `to_dict`. Labels become folders, so other content raises KeyError, TypeError or ValueError."""
        top = tuple((str(one["label"]), float(one["probability"])) for one in record["top"])
        place = dict(record.get("place") or {})
        is_file = bool(place) and place.pop("file") is True
        at = Place(**place) if place else None
        texts, label = (record["input"], record["label"] or "", record["error"] or ""), record["label"]
        if not all(isinstance(text, str) for text in texts) or not isinstance(record["probability"] or 0.0, float | int):
            raise TypeError("a value has the wrong type")
        if label is not None and not (is_component(label) and not label.startswith(".")):
            raise ValueError(f"{label[:80]!r} cannot be the name of a class")
        if at and not (_are_natural(at.shard, at.shards, at.position, at.inputs or 0) and 1 <= at.shard <= at.shards):
            raise ValueError("the numbers of the shard are invalid")
        return Prediction(record["input"], label, record["probability"], top, record["error"], at, is_file)


def _are_natural(*values: object) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def predict_image(bundle: Bundle, source: Source, *, top: int = 1, threshold: float = 0.0) -> Prediction:
    """Predict one image. The record of an unreadable image contains the error.

    threshold: with a lower probability, the label is `unknown`; the probability is returned in any case.
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
    """Parse --threshold: a probability such as `0.8`, or `auto:` and an accuracy such as `auto:0.99`.

    `auto:` selects the lowest threshold whose predictions have at least that accuracy on the validation images.

    Returns:
        The threshold, and a note for the user on how it was selected ("" for a plain probability).

    Raises:
        UsageError: The text is invalid, or a class is named `unknown`.
        ImgclfError: No threshold reaches the accuracy.
    """
    automatic, number = text.startswith("auto:"), text.removeprefix("auto:")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold {text}: give a probability from 0 to 1, or auto: and an accuracy, such as auto:0.99")
    if UNKNOWN in bundle.class_names:
        raise UsageError(
            f"--threshold: {bundle.path} has a class named {UNKNOWN}, which is the label of predictions below the threshold"
        )
    if not automatic:
        return value, ""
    points, images = bundle.info.calibration.thresholds, bundle.info.calibration.images
    chosen = next((point for point in points if point[1] >= value), None)
    if chosen is None:
        best = f"; the highest accuracy is {points[-1][1]:.4f}, with threshold {points[-1][0]:.4f}" if points else ""
        raise ImgclfError(
            f"--threshold {text}: no threshold reaches this accuracy on the validation images of {bundle.path}{best}"
        )
    accepted = round(chosen[2] * images)
    low, high = wilson_interval(round(chosen[1] * accepted), accepted)
    return chosen[0], (
        f"threshold {chosen[0]:.4f}: {accepted} of {images} validation images reach this confidence, "
        f"and {chosen[1]:.1%} of these are correct (95% interval {low:.1%} to {high:.1%})"
    )


def overlay(bundle: Bundle, image: decode.Image, shown: decode.Image, label: str | None = None) -> decode.Image:
    """Draw the saliency map of a decoded image over `shown`, which is the same image at any size.

    label: the class of the map; by default the predicted class.
    """
    prepared = preprocess.apply(bundle.preprocessing, image)
    target = int(bundle.probability(prepared).argmax()) if label is None else bundle.class_names.index(label)
    heat = saliency.occlusion(bundle.probability, prepared, target)
    return saliency.overlay(shown, saliency.to_original(bundle.preprocessing, heat, *shown.shape[:2]))
