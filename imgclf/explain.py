"""`imgclf explain`: draw saliency maps over images, and measure how faithful the maps are."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imgclf.core import names
from imgclf.core.errors import ImageError, ImgclfError, UsageError
from imgclf.core.fields import check
from imgclf.core.files.paths import StrPath
from imgclf.core.files.state_folder import check_outside
from imgclf.core.names import nfc
from imgclf.core.remedies import why
from imgclf.evaluation import saliency
from imgclf.images import decode, preprocess, sources
from imgclf.images.sources import Inputs, Source
from imgclf.models.bundle import Bundle
from imgclf.models.grad_cam import grad_cam
from imgclf.reports import drawing

Method = Literal["occlusion", "grad-cam"]
SIDE = 420  # pixels of the longer side of an image on a sheet


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The saliency map of one input for the class `target`, and its fidelity.

    label: the predicted class. probability: of `target`, for the original image. marked, random: that probability if
    saliency.FRACTIONS of the pixels are covered: the pixels with the highest saliency, or random pixels. sheet: PNG path.
    small: the image and its overlay side by side, for display in a terminal.
    """

    input: str
    label: str | None = None
    target: str | None = None
    probability: float | None = None
    marked: tuple[float, ...] = ()
    random: tuple[float, ...] = ()
    is_blank: bool = False  # whether the map is 0 everywhere: no part of the image changes the probability
    sheet: str | None = None
    error: str | None = None
    small: decode.Image | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "small"}
        fractions = [f"{fraction:g}" for fraction in saliency.FRACTIONS]
        for name in ("marked", "random"):
            values[name] = dict(zip(fractions, values[name], strict=False))
        return {"schema": "explain/1", **values}


def explain(
    bundle: Bundle, inputs: Inputs, out: StrPath, *, method: Method = "occlusion", target: str | None = None
) -> Iterator[Explanation]:
    """Write one sheet per image into the folder `out`: the image, and its saliency map for a class.

    Args:
        method: Occlusion calls the run's LiteRT model; Grad-CAM loads model.keras with TensorFlow.
        target: The class to explain; by default the predicted class.

    Raises:
        ImgclfError: The folder `out` cannot be created.
        UsageError: The class is unknown, or `out` is the folder of the images.
    """
    out = Path(out)
    check("method", method, Method)
    target = None if target is None else nfc(target)
    if target is not None and target not in bundle.class_names:
        raise UsageError(f"--class {target}: no such class; the classes are {', '.join(bundle.class_names)}")
    check_outside(out, "--out", Path(bundle.info.data.path), itself=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImgclfError(f"{out}: cannot create this folder: {why(error, 'choose another with --out')}") from error
    listed = sources.as_iterable(inputs)
    known = listed if isinstance(listed, list) else []  # reading an iterator here would consume it
    given = [os.fspath(name) for name in known if not isinstance(name, Source)]
    if any(os.path.isdir(name) and os.path.samefile(name, out) for name in given):
        raise UsageError(f"--out {out}: this is the folder of the images; choose another")
    compute_map = _grad_cam(bundle) if method == "grad-cam" else _occlusion(bundle)
    taken: set[Path] = set()
    for source in sources.expand(inputs, out):
        try:
            yield _explain_one(bundle, source, compute_map, target, out, taken)
        except ImageError as error:
            yield Explanation(source.name, error=str(error))
        except OSError as error:
            yield Explanation(source.name, error=f"the sheet cannot be written: {why(error, 'choose another --out')}")


ComputeMap = Callable[[decode.Image, int], saliency.Map]  # (preprocessed image, class index) -> saliency map


def _occlusion(bundle: Bundle) -> ComputeMap:
    return lambda image, target: saliency.occlusion(bundle.probability, image, target)


def _grad_cam(bundle: Bundle) -> ComputeMap:
    network = bundle.network()
    return lambda image, target: grad_cam(network, image, target)


def _explain_one(
    bundle: Bundle, source: Source, compute_map: ComputeMap, class_name: str | None, out: Path, taken: set[Path]
) -> Explanation:
    image = source.pixels()
    prepared = preprocess.apply(bundle.preprocessing, image)
    probabilities = bundle.probability(prepared)
    best = int(probabilities.argmax())
    target = bundle.class_names.index(class_name) if class_name is not None else best
    heat = compute_map(prepared, target)
    fidelity = saliency.fidelity(bundle.probability, prepared, target, heat)
    small = preprocess.fit(image, min(SIDE, max(image.shape[:2])))
    overlay = saliency.overlay(small, saliency.to_original(bundle.preprocessing, heat, *small.shape[:2]))
    is_blank = not heat.any()
    path = _sheet_path(out, source.name, taken)
    label, name = bundle.class_names[best], bundle.class_names[target]
    drawing.save(_sheet(small, overlay, label, name, fidelity, is_blank), path)
    return Explanation(
        source.name, label, name, fidelity.before, fidelity.marked, fidelity.random, is_blank, str(path),
        small=np.hstack([small, overlay]),
    )  # fmt: skip


def _sheet_path(out: Path, name: str, taken: set[Path]) -> Path:
    """Return a free path for the sheet of an input. Files that imgclf did not write are never overwritten."""
    stem = os.path.basename(name.rstrip("/")) or "image"

    def is_taken(other: str) -> bool:
        path = out / other
        return path in taken or (os.path.lexists(path) and not drawing.is_ours(path))

    path = out / names.free(stem, ".png", is_taken)
    taken.add(path)
    return path


def _sheet(
    image: decode.Image, overlay: decode.Image, label: str, target: str, fidelity: saliency.Fidelity, is_blank: bool
) -> decode.Image:
    """Draw the image and its overlay side by side, with the probability and the fidelity below."""
    gap, foot = 10, 66
    height, width = image.shape[:2]
    across = max(2 * width + 3 * gap, 470)
    canvas = np.full((height + 2 * gap + foot, across, 3), drawing.PAPER, np.uint8)
    canvas[gap : gap + height, gap : gap + width] = image
    canvas[gap : gap + height, 2 * gap + width : 2 * gap + 2 * width] = overlay
    title = f"{drawing.shorten(target, 24)} {fidelity.before:.3f}"
    if label != target:
        title += f"   (predicted: {drawing.shorten(label, 24)})"
    drawing.write(canvas, title, gap, height + 2 * gap + 22, drawing.INK, 18)
    covered = (
        f"{saliency.FRACTIONS[-1]:.0%} covered: {fidelity.marked[-1]:.3f} where marked, {fidelity.random[-1]:.3f} at random"
    )
    text = "no part of the image changes this" if is_blank else covered
    drawing.write(canvas, text, gap, height + 2 * gap + 48, drawing.SOFT, 14)
    return canvas
