"""Saliency maps by occlusion, a measure of how faithful a saliency map is, and overlays of maps on images."""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Preprocessing
from imgclf.core.parallel import ordered_map
from imgclf.images import preprocess
from imgclf.images.decode import Image

Map = NDArray[np.float64]  # (h, w), from 0 (no influence on the prediction) to 1 (the largest influence)
Probability = Callable[[Image], NDArray[np.float64]]  # (h, w, 3) uint8 RGB at the model's size -> (classes,)

# Patches along the shorter side; neighbouring patches overlap by half. Smaller patches, or patches of two sizes, give maps that
# are not more faithful and take three times as long.
PATCHES = 4
NEGLIGIBLE = 0.05  # changes of the logit up to this size count as no influence
FRACTIONS = (0.05, 0.1, 0.2, 0.3)  # fractions of the pixels that are covered to measure how faithful a map is


def occlusion(probability: Probability, image: Image, target: int) -> Map:
    """Compute the saliency map of a class by occlusion (Zeiler and Fergus, 2014).

    Each patch of the image is replaced by the blurred image, and the decrease of the logit of the class is measured. A pixel
    gets the mean over its patches, weighted by a Hann window so that the centre of a patch counts most. Patches are computed
    on all cores.

    Args:
        probability: function from an image to the probabilities of the classes.
        image: (h, w, 3) uint8 RGB at the model's size.
        target: class number.

    Returns:
        (h, w) map; all zeros if no patch has influence.
    """
    height, width = image.shape[:2]
    cover = blurred(image)
    patches = _patches(height, width)

    def logit_without(patch: tuple[slice, slice]) -> float:
        covered = image.copy()
        covered[patch] = cover[patch]
        return logit(probability(covered), target)

    before = logit(probability(image), target)
    decreases = [max(0.0, before - after) for after in ordered_map(logit_without, patches)]
    total, weight = np.zeros((height, width)), np.full((height, width), 1e-9)
    for (rows, columns), decrease in zip(patches, decreases, strict=True):
        window = np.outer(np.hanning(rows.stop - rows.start + 2)[1:-1], np.hanning(columns.stop - columns.start + 2)[1:-1])
        total[rows, columns] += decrease * window
        weight[rows, columns] += window
    return _scaled(total / weight)


def _patches(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the (rows, columns) of square patches that cover an image. Neighbouring patches overlap by half of their side."""
    side = max(2, round(min(height, width) / PATCHES))

    def starts(length: int) -> list[int]:
        count = max(1, math.ceil((length - side) / (side / 2)) + 1)
        return sorted({round(start) for start in np.linspace(0, length - side, count)})

    return [(slice(top, top + side), slice(left, left + side)) for top in starts(height) for left in starts(width)]


def blurred(image: Image) -> Image:
    """Blur an image strongly. Patches are covered with the result because a constant colour would add edges to the image."""
    side = max(3, min(image.shape[:2]) // 2) | 1
    once = cv2.blur(image, (side, side), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.blur(once, (side, side), borderType=cv2.BORDER_REPLICATE), np.uint8)


def logit(probabilities: NDArray[np.float64], target: int) -> float:
    """Return log(p / (1 - p)) of a class.

    1 - p is computed as the sum of the other probabilities, because the subtraction loses precision if p is near 1.

    Args:
        probabilities: (classes,).
        target: class number.
    """
    others = float(np.delete(probabilities, target).sum())
    return math.log(max(float(probabilities[target]), 1e-20)) - math.log(max(others, 1e-20))


def _scaled(values: Map) -> Map:
    """Divide by the maximum; return zeros if the maximum is at most NEGLIGIBLE."""
    largest = float(values.max(initial=0.0))
    return values / largest if largest > NEGLIGIBLE else np.zeros_like(values)


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """Probability of a class while more and more of the image is covered.

    Attributes:
        before: probability with no pixel covered.
        marked: probability with the most salient pixels covered, for each fraction in FRACTIONS.
        random: mean probability with random pixels covered, for each fraction in FRACTIONS.
    """

    before: float
    marked: tuple[float, ...]
    random: tuple[float, ...]


def fidelity(probability: Probability, image: Image, target: int, heat: Map, *, seed: int = 0, rounds: int = 5) -> Fidelity:
    """Measure how faithful a saliency map is by deletion (Petsiuk et al., 2018).

    The most salient pixels are covered, and for comparison random patches of the same area. If the map is faithful, the
    probability decreases faster for the salient pixels.

    Args:
        probability: function from an image to the probabilities of the classes.
        image: (h, w, 3) uint8 RGB at the model's size.
        target: class number.
        heat: (h, w) saliency map of the class.
        seed: seed of the random patches.
        rounds: number of random coverings, of which the mean is returned.
    """
    cover = blurred(image)

    def after(mask: NDArray[np.bool_]) -> float:
        return float(probability(np.where(mask[..., None], cover, image).astype(np.uint8))[target])

    random = np.random.default_rng(seed)
    maps = [heat, *(_random_patches(image.shape[:2], random) for _round in range(rounds))]
    masks = [_highest(values, fraction) for values in maps for fraction in FRACTIONS]
    found = np.array(list(ordered_map(after, masks))).reshape(len(maps), len(FRACTIONS))
    before = float(probability(image)[target])
    return Fidelity(before, tuple(found[0].tolist()), tuple(found[1:].mean(axis=0).tolist()))


def _random_patches(size: tuple[int, ...], random: np.random.Generator) -> Map:
    """Return a (height, width) map of 10 x 10 patches with random values. Covering single pixels would hide no object."""
    coarse = random.random((10, 10))
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_NEAREST), np.float64)


def _highest(values: Map, fraction: float) -> NDArray[np.bool_]:
    """Return the mask of this fraction of the pixels, those with the highest values. Ties do not change their number."""
    count = round(fraction * values.size)
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


# -- on the original image ----------------------------------------------------------------------------------------------------


def to_original(preprocessing: Preprocessing, heat: Map, height: int, width: int) -> Map:
    """Transform a saliency map of the model's input to the original image.

    Args:
        preprocessing: the preprocessing that made the model's input from the image.
        heat: map at the model's size.
        height: height of the original image in pixels.
        width: width of the original image in pixels.

    Returns:
        (height, width) map; NaN for pixels that the preprocessing crops off.
    """
    (rows, columns), filled = preprocess.framed(preprocessing, width, height)
    whole = np.full((height, width), np.nan)
    whole[rows, columns] = _resized(heat[filled], columns.stop - columns.start, rows.stop - rows.start)
    return whole


def _resized(heat: Map, width: int, height: int) -> Map:
    """Resize a map by bilinear interpolation."""
    return np.clip(np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), np.float64), 0.0, 1.0)


def overlay(image: Image, heat: Map) -> Image:
    """Draw a saliency map over its image.

    Salient pixels have the colours of the inferno colour map, other pixels are less saturated than in the image, and pixels
    that the model does not see are dark. A white line surrounds the pixels whose saliency is 0.5 or more.

    Args:
        image: (h, w, 3) uint8 RGB.
        heat: (h, w) map; NaN for pixels that the model does not see.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    visible = ~np.isnan(heat)
    level = np.where(visible, heat, 0.0)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float64)
    pale = 0.55 * image + 0.45 * grey
    glow = cv2.cvtColor(cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    opacity = (0.65 * level**0.8)[..., None]
    mixed = pale * (1 - opacity) + glow * opacity
    mixed[~visible] = 0.3 * pale[~visible]
    drawn = np.clip(mixed.round(), 0, 255).astype(np.uint8)
    if level.max(initial=0.0) > 0:
        edges, _tree = cv2.findContours((level >= 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(drawn, edges, -1, (255, 255, 255), max(1, round(min(image.shape[:2]) / 250)), cv2.LINE_AA)
    return drawn
