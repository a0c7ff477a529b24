"""Saliency maps of an image, by covering parts of it or by gradients, and a measure of how much such a map explains."""

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

Map = NDArray[np.float64]  # (h, w), from 0 (no influence on the prediction) to 1 (the largest)
Probability = Callable[[Image], NDArray[np.float64]]  # (h, w, 3) uint8 at the model's size to (classes,)

PATCHES = (
    4  # to the shorter side, each half over the next: as faithful as smaller ones, and as two sizes, in a third of the time
)
FAINT = 0.05  # in the logit: covering that changes it by no more than this has no influence
SHARES = (0.05, 0.1, 0.2, 0.3)  # of the pixels covered, by which a map is judged


def occlusion(probability: Probability, image: Image, target: int) -> Map:
    """How far the logit of a class falls when a square patch of the image is blurred away (Zeiler and Fergus, 2014).

    image: (h, w, 3) uint8 at the model's size. Overlapping patches, on all cores; a pixel gets the mean of its patches, each
    weighed towards its middle. All zero when no patch matters.
    """
    height, width = image.shape[:2]
    hidden = blurred(image)
    patches = _patches(height, width)

    def fall(patch: tuple[slice, slice]) -> float:
        covered = image.copy()
        covered[patch] = hidden[patch]
        return logit(probability(covered), target)

    before = logit(probability(image), target)
    falls = [max(0.0, before - after) for after in ordered_map(fall, patches)]
    total, weight = np.zeros((height, width)), np.full((height, width), 1e-9)
    for (rows, columns), drop in zip(patches, falls, strict=True):
        window = np.outer(np.hanning(rows.stop - rows.start + 2)[1:-1], np.hanning(columns.stop - columns.start + 2)[1:-1])
        total[rows, columns] += drop * window
        weight[rows, columns] += window
    return _scaled(total / weight)


def _patches(height: int, width: int) -> list[tuple[slice, slice]]:
    """Squares over an image, each half over the next, at the edges too."""
    side = max(2, round(min(height, width) / PATCHES))

    def starts(length: int) -> list[int]:
        count = max(1, math.ceil((length - side) / (side / 2)) + 1)
        return sorted({round(place) for place in np.linspace(0, length - side, count)})

    return [(slice(top, top + side), slice(left, left + side)) for top in starts(height) for left in starts(width)]


def blurred(image: Image) -> Image:
    """What a part of an image is covered with: the image without detail, so that no edge appears that was not there."""
    side = max(3, min(image.shape[:2]) // 2) | 1
    once = cv2.blur(image, (side, side), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.blur(once, (side, side), borderType=cv2.BORDER_REPLICATE), np.uint8)


def logit(probabilities: NDArray[np.float64], target: int) -> float:
    """log(p / (1 - p)) of a class, from what the others have: 1 - p would lose its digits where p is near 1."""
    others = float(np.delete(probabilities, target).sum())
    return math.log(max(float(probabilities[target]), 1e-20)) - math.log(max(others, 1e-20))


def _scaled(values: Map) -> Map:
    top = float(values.max(initial=0.0))
    return values / top if top > FAINT else np.zeros_like(values)


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """The probability of the class when SHARES of the pixels are covered: those marked most, and as many drawn at random.

    before: with nothing covered.
    """

    before: float
    marked: tuple[float, ...]
    random: tuple[float, ...]


def fidelity(probability: Probability, image: Image, target: int, heat: Map, *, seed: int = 0, rounds: int = 5) -> Fidelity:
    """Cover what a map marks, more and more of it (deletion: Petsiuk et al., 2018), beside random patches of the same area.

    random: the mean of `rounds` drawings. A map that explains something makes the probability fall faster than chance does.
    """
    hidden = blurred(image)

    def after(mask: NDArray[np.bool_]) -> float:
        return float(probability(np.where(mask[..., None], hidden, image).astype(np.uint8))[target])

    random = np.random.default_rng(seed)
    orders = [heat, *(_patchwork(image.shape[:2], random) for _round in range(rounds))]
    masks = [_most(order, share) for order in orders for share in SHARES]
    found = np.array(list(ordered_map(after, masks))).reshape(len(orders), len(SHARES))
    before = float(probability(image)[target])
    return Fidelity(before, tuple(found[0].tolist()), tuple(found[1:].mean(axis=0).tolist()))


def _patchwork(size: tuple[int, ...], random: np.random.Generator) -> Map:
    """An order of pixels at random, in patches of a tenth of the side: single pixels would hide nothing."""
    coarse = random.random((10, 10))
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_NEAREST), np.float64)


def _most(order: Map, share: float) -> NDArray[np.bool_]:
    """The share of the pixels with the highest values, exactly as many as that is."""
    count = round(share * order.size)
    mask = np.zeros(order.size, bool)
    mask[np.argsort(-order, axis=None, kind="stable")[:count]] = True
    return mask.reshape(order.shape)


# -- on the photograph --------------------------------------------------------------------------------------------------------


def onto(preprocessing: Preprocessing, heat: Map, height: int, width: int) -> Map:
    """A map of the model's input as one of the (height, width) image it was made from; NaN where the model saw nothing."""
    (rows, columns), filled = preprocess.framed(preprocessing, width, height)
    whole = np.full((height, width), np.nan)
    whole[rows, columns] = _resized(heat[filled], columns.stop - columns.start, rows.stop - rows.start)
    return whole


def _resized(heat: Map, width: int, height: int) -> Map:
    return np.clip(np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), np.float64), 0.0, 1.0)


def overlay(image: Image, heat: Map) -> Image:
    """An image under its map, both (h, w): grey where nothing counted, glowing where much did, dark where nothing was seen."""
    seen = ~np.isnan(heat)
    level = np.where(seen, heat, 0.0)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float64)
    pale = 0.55 * image + 0.45 * grey
    glow = cv2.cvtColor(cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    share = (0.65 * level**0.8)[..., None]
    mixed = pale * (1 - share) + glow * share
    mixed[~seen] = 0.3 * pale[~seen]
    drawn = np.clip(mixed.round(), 0, 255).astype(np.uint8)
    if level.max(initial=0.0) > 0:
        edges, _tree = cv2.findContours((level >= 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(drawn, edges, -1, (255, 255, 255), max(1, round(min(image.shape[:2]) / 250)), cv2.LINE_AA)
    return drawn
