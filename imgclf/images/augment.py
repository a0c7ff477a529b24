"""Random changes to training images: one OpenCV warp and one table of levels an image, on uint8, all drawn from one seed."""

import functools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Augment
from imgclf.images.decode import Image

ROTATION = 15.0  # degrees either way
ZOOM = 0.15
SHIFT = 0.10  # of the side
BRIGHTNESS = 25.0  # grey levels
CONTRAST = 0.2
COLOUR = 0.08  # of each channel's levels
STRENGTH = 1.6  # how much further `strong` goes
MANY, REACH_OF_MANY = 10_000, 0.5  # training images from which `light` is gentler: they vary enough, and it costs accuracy

Pixels = NDArray[np.uint8]  # (n, h, w, 3)
Targets = NDArray[np.float32]  # (n, outputs)
ChangeOne = Callable[[Image, int], Image]
Change = Callable[[Pixels, Targets, NDArray[np.int64]], tuple[Pixels, Targets]]


def light(image: Image, seed: int, flip: bool = True, strength: float = 1.0) -> Image:
    """Flip, rotate, zoom, shift, brighten, stretch contrast, tint: the same seed, the same pixels."""
    random = np.random.default_rng(seed)
    height, width = image.shape[:2]
    draws = random.uniform(-1, 1, 9)
    zoom = 1 + strength * ZOOM * draws[1]
    warp = np.asarray(
        cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), strength * ROTATION * draws[0], zoom), np.float64
    )
    warp[:, 2] += strength * SHIFT * draws[2:4] * (width, height)
    if flip and random.random() < 0.5:  # mirror first: x becomes width - 1 - x
        warp[:, 2] += warp[:, 0] * (width - 1)
        warp[:, 0] *= -1
    moved = cv2.warpAffine(image, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    contrast = 1 + strength * CONTRAST * draws[4]
    offset = strength * BRIGHTNESS * draws[5] + 128 * (1 - contrast)
    gains = contrast * (1 + strength * COLOUR * draws[6:9])
    levels = np.clip(np.rint(np.arange(256)[:, None] * gains + offset), 0, 255).astype(np.uint8)
    return cv2.LUT(moved, levels[None])  # type: ignore[return-value]


def strong(image: Image, seed: int, flip: bool = True) -> Image:
    """`light`, further, and two of seven more changes drawn at random (after Cubuk et al., RandAugment, 2020)."""
    moved = light(image, seed, flip, STRENGTH)
    random = np.random.default_rng((seed, 1))
    for number in random.choice(len(_MORE), 2, replace=False):
        moved = _MORE[number](moved, random)
    return moved


def _grey(image: Image, random: np.random.Generator) -> Image:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = random.uniform(0.3, 1)
    return cv2.addWeighted(image, 1 - share, grey, share, 0)  # type: ignore[return-value]


def _hue(image: Image, random: np.random.Generator) -> Image:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    turn, more = int(random.integers(-12, 13)), random.uniform(0.6, 1.5)
    levels = np.arange(256)
    table = np.stack([(levels + turn) % 180, np.clip(levels * more, 0, 255), levels], axis=-1).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def _posterize(image: Image, random: np.random.Generator) -> Image:
    return image & np.uint8(256 - (1 << int(random.integers(2, 5))))


def _blur(image: Image, random: np.random.Generator) -> Image:
    return cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.2))  # type: ignore[return-value]


def _sharpen(image: Image, random: np.random.Generator) -> Image:
    more = random.uniform(0.3, 1.2)
    return cv2.addWeighted(image, 1 + more, cv2.GaussianBlur(image, (0, 0), 1.0), -more, 0)  # type: ignore[return-value]


def _noise(image: Image, random: np.random.Generator) -> Image:
    noise = random.normal(0, random.uniform(4, 14), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _hole(image: Image, random: np.random.Generator) -> Image:
    """A grey square of up to two fifths of the side (DeVries and Taylor, Cutout, 2017)."""
    height, width = image.shape[:2]
    side = int(random.uniform(0.15, 0.4) * min(height, width))
    top, left = int(random.integers(0, height - side + 1)), int(random.integers(0, width - side + 1))
    changed = image.copy()
    changed[top : top + side, left : left + side] = 128
    return changed


_MORE = (_grey, _hue, _posterize, _blur, _sharpen, _noise, _hole)


def mix(pixels: Pixels, targets: Targets, seed: int) -> tuple[Pixels, Targets]:
    """Half of the time nothing, else mixup or cutmix of the whole batch with itself shuffled.

    Zhang et al., mixup, 2018, with alpha 0.2; Yun et al., CutMix, 2019, with alpha 1.
    """
    random = np.random.default_rng((seed, 2))
    draw = random.random()
    if draw < 0.5 or len(pixels) < 2:
        return pixels, targets
    other = random.permutation(len(pixels))
    if draw < 0.75:
        share = float(random.beta(0.2, 0.2))
        mixed = np.rint(share * pixels + (1 - share) * pixels[other].astype(np.float32)).astype(np.uint8)
    else:
        height, width = pixels.shape[1:3]
        cut = np.sqrt(1 - random.beta(1.0, 1.0))
        tall, wide = int(cut * height), int(cut * width)
        top, left = int(random.integers(0, height - tall + 1)), int(random.integers(0, width - wide + 1))
        mixed = pixels.copy()
        mixed[:, top : top + tall, left : left + wide] = pixels[other, top : top + tall, left : left + wide]
        share = 1 - tall * wide / (height * width)
    return mixed, (share * targets + (1 - share) * targets[other]).astype(np.float32)


def changes(kind: Augment, flip: bool, images: int) -> ChangeOne:
    """What changes one image by a seed, where there are so many to train on."""
    if kind == "none":
        return lambda image, _seed: image
    if kind == "light":
        return functools.partial(light, flip=flip, strength=REACH_OF_MANY if images >= MANY else 1.0)
    return functools.partial(strong, flip=flip)


def changer(kind: Augment, flip: bool, images: int) -> Change | None:
    """What makes of pixels, targets and a seed for each image what the network is fed; None for `none`."""
    if kind == "none":
        return None
    one = changes(kind, flip, images)

    def change(pixels: Pixels, targets: Targets, seeds: NDArray[np.int64]) -> tuple[Pixels, Targets]:
        changed = np.empty_like(pixels)
        for number, (image, seed) in enumerate(zip(pixels, seeds.tolist(), strict=True)):
            changed[number] = one(image, seed)
        return mix(changed, targets, int(seeds[0])) if kind == "strong" else (changed, targets)

    return change
