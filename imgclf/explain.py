"""`imgclf explain`: where a run looks, as overlays, and how much they explain."""

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
    """Where the run looks for `target` in one input. label: its answer; probability: of `target`, with nothing covered.

    marked, random: that probability when saliency.SHARES of the pixels are covered, those the map marks most and as many
    drawn at random. sheet: the PNG; small: an image of it for a terminal.
    """

    input: str
    label: str | None = None
    target: str | None = None
    probability: float | None = None
    marked: tuple[float, ...] = ()
    random: tuple[float, ...] = ()
    is_blank: bool = False  # whether no part of the image moves the answer
    sheet: str | None = None
    error: str | None = None
    small: decode.Image | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "small"}
        shares = [f"{share:g}" for share in saliency.SHARES]
        for name in ("marked", "random"):
            values[name] = dict(zip(shares, values[name], strict=False))
        return {"schema": "explain/1", **values}


def explain(
    bundle: Bundle, inputs: Inputs, out: StrPath, *, method: Method = "occlusion", target: str | None = None
) -> Iterator[Explanation]:
    """Write a sheet an image into `out`: the photograph, and the parts of it that make for a class.

    target: the class to explain; the run's answer for None. Occlusion asks the run itself, on LiteRT; Grad-CAM looks inside
    model.keras with TensorFlow. Raises ImgclfError when `out` cannot be a folder, UsageError for an unknown class.
    """
    out = Path(out)
    check("method", method, Method)
    target = None if target is None else nfc(target)
    if target is not None and target not in bundle.class_names:
        raise UsageError(f"--class {target}: no such class; there are {', '.join(bundle.class_names)}")
    check_outside(out, "--out", Path(bundle.info.data.path), itself=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImgclfError(f"{out}: cannot create this folder: {why(error, 'choose another with --out')}") from error
    listed = sources.listed(inputs)
    known = listed if isinstance(listed, list) else []  # an iterator would be used up
    given = [os.fspath(name) for name in known if not isinstance(name, Source)]
    if any(os.path.isdir(name) and os.path.samefile(name, out) for name in given):
        raise UsageError(f"--out {out}: the folder that the images come from; choose another")
    look = _grad_cam(bundle) if method == "grad-cam" else _occlusion(bundle)
    taken: set[Path] = set()
    for source in sources.expand(inputs, out):
        try:
            yield _one(bundle, source, look, target, out, taken)
        except ImageError as error:
            yield Explanation(source.name, error=str(error))
        except OSError as error:
            yield Explanation(source.name, error=f"the sheet cannot be written: {why(error, 'choose another --out')}")


Look = Callable[[decode.Image, int], saliency.Map]


def _occlusion(bundle: Bundle) -> Look:
    return lambda image, target: saliency.occlusion(bundle.probability, image, target)


def _grad_cam(bundle: Bundle) -> Look:
    network = bundle.network()
    return lambda image, target: grad_cam(network, image, target)


def _one(bundle: Bundle, source: Source, look: Look, wish: str | None, out: Path, taken: set[Path]) -> Explanation:
    image = source.pixels()
    fed = preprocess.apply(bundle.preprocessing, image)
    probabilities = bundle.probability(fed)
    best = int(probabilities.argmax())
    target = bundle.class_names.index(wish) if wish is not None else best
    heat = look(fed, target)
    found = saliency.fidelity(bundle.probability, fed, target, heat)
    small = preprocess.fit(image, min(SIDE, max(image.shape[:2])))
    seen = saliency.onto(bundle.preprocessing, heat, *small.shape[:2])
    marked = saliency.overlay(small, seen)
    blank = not heat.any()
    path = _place(out, source.name, taken)
    label, name = bundle.class_names[best], bundle.class_names[target]
    drawing.save(_sheet(small, marked, label, name, found, blank), path)
    return Explanation(
        source.name, label, name, found.before, found.marked, found.random, blank, str(path), small=np.hstack([small, marked])
    )


def _place(out: Path, name: str, taken: set[Path]) -> Path:
    """A file for the sheet of this input: not one of another input, and no file that imgclf did not write."""
    stem = os.path.basename(name.rstrip("/")) or "image"

    def is_taken(other: str) -> bool:
        path = out / other
        return path in taken or (os.path.lexists(path) and not drawing.is_ours(path))

    path = out / names.free(stem, ".png", is_taken)
    taken.add(path)
    return path


def _sheet(
    image: decode.Image, marked: decode.Image, label: str, target: str, found: saliency.Fidelity, blank: bool
) -> decode.Image:
    """The photograph and its overlay side by side, with the answer and the fidelity below."""
    gap, foot = 10, 66
    height, width = image.shape[:2]
    across = max(2 * width + 3 * gap, 470)
    canvas = np.full((height + 2 * gap + foot, across, 3), drawing.PAPER, np.uint8)
    canvas[gap : gap + height, gap : gap + width] = image
    canvas[gap : gap + height, 2 * gap + width : 2 * gap + 2 * width] = marked
    answer = f"{drawing.shorten(target, 24)} {found.before:.3f}"
    if label != target:
        answer += f"   (answer: {drawing.shorten(label, 24)})"
    drawing.write(canvas, answer, gap, height + 2 * gap + 22, drawing.INK, 18)
    covered = f"{saliency.SHARES[-1]:.0%} covered where marked: {found.marked[-1]:.3f}; at random: {found.random[-1]:.3f}"
    words = "no part of the image moves this" if blank else covered
    drawing.write(canvas, words, gap, height + 2 * gap + 48, drawing.SOFT, 14)
    return canvas
