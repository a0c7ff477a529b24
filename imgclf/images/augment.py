"""Augment training images at random: one OpenCV warp and one lookup table per image, on uint8, drawn from one seed."""

import functools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Augment
from imgclf.images.decode import Image

ROTATION = 15.0  # degrees in both directions
ZOOM = 0.15
SHIFT = 0.10  # fraction of the width or height
BRIGHTNESS = 25.0  # grey levels
CONTRAST = 0.2
COLOUR = 0.08  # fraction of the levels of each channel
STRENGTH = 1.6  # factor on these limits in `strong`
# From this many training images on, `light` has this factor: they vary enough, and stronger changes cost accuracy.
MANY_IMAGES, STRENGTH_FOR_MANY = 10_000, 0.5

Pixels = NDArray[np.uint8]  # (n, h, w, 3)
Targets = NDArray[np.float32]  # (n, outputs)
ImageAugmentation = Callable[[Image, int], Image]
BatchAugmentation = Callable[[Pixels, Targets, NDArray[np.int64]], tuple[Pixels, Targets]]


def light(image: Image, seed: int, flip: bool = True, strength: float = 1.0) -> Image:
    """Flip, rotate, zoom and shift an image; change its brightness, contrast and colours. The same seed gives the same pixels.

    strength: factor on the limits of all changes.
    """
    random = np.random.default_rng(seed)
    height, width = image.shape[:2]
    draws = random.uniform(-1, 1, 9)
    zoom = 1 + strength * ZOOM * draws[1]
    warp = np.asarray(
        cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), strength * ROTATION * draws[0], zoom), np.float64
    )
    warp[:, 2] += strength * SHIFT * draws[2:4] * (width, height)
    if flip and random.random() < 0.5:  # flip before the warp: x becomes width - 1 - x
        warp[:, 2] += warp[:, 0] * (width - 1)
        warp[:, 0] *= -1
    moved = cv2.warpAffine(image, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    contrast = 1 + strength * CONTRAST * draws[4]
    offset = strength * BRIGHTNESS * draws[5] + 128 * (1 - contrast)
    gains = contrast * (1 + strength * COLOUR * draws[6:9])
    levels = np.clip(np.rint(np.arange(256)[:, None] * gains + offset), 0, 255).astype(np.uint8)
    return cv2.LUT(moved, levels[None])  # type: ignore[return-value]


def strong(image: Image, seed: int, flip: bool = True) -> Image:
    """Apply `light` with more strength, then two of seven other changes at random (after Cubuk et al., RandAugment, 2020)."""
    moved = light(image, seed, flip, STRENGTH)
    random = np.random.default_rng((seed, 1))
    for number in random.choice(len(_STRONG_CHANGES), 2, replace=False):
        moved = _STRONG_CHANGES[number](moved, random)
    return moved


def _grey(image: Image, random: np.random.Generator) -> Image:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    weight = random.uniform(0.3, 1)
    return cv2.addWeighted(image, 1 - weight, grey, weight, 0)  # type: ignore[return-value]


def _hue(image: Image, random: np.random.Generator) -> Image:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    turn, gain = int(random.integers(-12, 13)), random.uniform(0.6, 1.5)
    levels = np.arange(256)
    table = np.stack([(levels + turn) % 180, np.clip(levels * gain, 0, 255), levels], axis=-1).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def _posterize(image: Image, random: np.random.Generator) -> Image:
    return image & np.uint8(256 - (1 << int(random.integers(2, 5))))


def _blur(image: Image, random: np.random.Generator) -> Image:
    return cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.2))  # type: ignore[return-value]


def _sharpen(image: Image, random: np.random.Generator) -> Image:
    gain = random.uniform(0.3, 1.2)
    return cv2.addWeighted(image, 1 + gain, cv2.GaussianBlur(image, (0, 0), 1.0), -gain, 0)  # type: ignore[return-value]


def _noise(image: Image, random: np.random.Generator) -> Image:
    noise = random.normal(0, random.uniform(4, 14), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _cutout(image: Image, random: np.random.Generator) -> Image:
    """Cover a square with grey; its side is 15 to 40% of the shorter side (DeVries and Taylor, Cutout, 2017)."""
    height, width = image.shape[:2]
    side = int(random.uniform(0.15, 0.4) * min(height, width))
    top, left = int(random.integers(0, height - side + 1)), int(random.integers(0, width - side + 1))
    augmented = image.copy()
    augmented[top : top + side, left : left + side] = 128
    return augmented


_STRONG_CHANGES = (_grey, _hue, _posterize, _blur, _sharpen, _noise, _cutout)


def mix(pixels: Pixels, targets: Targets, seed: int) -> tuple[Pixels, Targets]:
    """Mix a batch with a shuffled copy of itself: 50% unchanged, 25% mixup, 25% CutMix.

    Zhang et al., mixup, 2018, with alpha 0.2; Yun et al., CutMix, 2019, with alpha 1.
    """
    random = np.random.default_rng((seed, 2))
    draw = random.random()
    if draw < 0.5 or len(pixels) < 2:
        return pixels, targets
    partners = random.permutation(len(pixels))
    if draw < 0.75:
        weight = float(random.beta(0.2, 0.2))
        mixed = np.rint(weight * pixels + (1 - weight) * pixels[partners].astype(np.float32)).astype(np.uint8)
    else:
        height, width = pixels.shape[1:3]
        cut = np.sqrt(1 - random.beta(1.0, 1.0))
        tall, wide = int(cut * height), int(cut * width)
        top, left = int(random.integers(0, height - tall + 1)), int(random.integers(0, width - wide + 1))
        mixed = pixels.copy()
        mixed[:, top : top + tall, left : left + wide] = pixels[partners, top : top + tall, left : left + wide]
        weight = 1 - tall * wide / (height * width)
    return mixed, (weight * targets + (1 - weight) * targets[partners]).astype(np.float32)


def image_augmentation(kind: Augment, flip: bool, images: int) -> ImageAugmentation:
    """Return the augmentation of one image. images: the number of training images."""
    if kind == "none":
        return lambda image, _seed: image
    if kind == "light":
        return functools.partial(light, flip=flip, strength=STRENGTH_FOR_MANY if images >= MANY_IMAGES else 1.0)
    return functools.partial(strong, flip=flip)


def batch_augmentation(kind: Augment, flip: bool, images: int) -> BatchAugmentation | None:
    """Return the augmentation of a batch with one seed per image; None for `none`. images: the number of training images."""
    if kind == "none":
        return None
    augment_image = image_augmentation(kind, flip, images)

    def augment_batch(pixels: Pixels, targets: Targets, seeds: NDArray[np.int64]) -> tuple[Pixels, Targets]:
        augmented = np.empty_like(pixels)
        for number, (image, seed) in enumerate(zip(pixels, seeds.tolist(), strict=True)):
            augmented[number] = augment_image(image, seed)
        return mix(augmented, targets, int(seeds[0])) if kind == "strong" else (augmented, targets)

    return augment_batch
