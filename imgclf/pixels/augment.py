"""Random changes to training pictures: one OpenCV warp and one table of grey levels an image, on uint8."""

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.pixels.images import Image

ROTATION = 15.0  # degrees either way
ZOOM = 0.15
SHIFT = 0.10  # of the side
BRIGHTNESS = 25.0  # grey levels
CONTRAST = 0.2


def light(image: Image, seed: int) -> Image:
    """Flip, rotate, zoom, shift, brighten and stretch contrast, all drawn from `seed`: the same seed, the same pixels."""
    random = np.random.default_rng(seed)
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    angle, zoom = random.uniform(-ROTATION, ROTATION), random.uniform(1 - ZOOM, 1 + ZOOM)
    warp = np.asarray(cv2.getRotationMatrix2D(centre, angle, zoom), np.float64)
    warp[:, 2] += random.uniform(-SHIFT, SHIFT, 2) * (width, height)
    if random.random() < 0.5:  # mirror first: x becomes width - 1 - x
        warp[:, 2] += warp[:, 0] * (width - 1)
        warp[:, 0] *= -1
    moved = cv2.warpAffine(image, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    contrast = random.uniform(1 - CONTRAST, 1 + CONTRAST)
    offset = random.uniform(-BRIGHTNESS, BRIGHTNESS) + 128 * (1 - contrast)
    levels = np.clip(np.rint(np.arange(256) * contrast + offset), 0, 255).astype(np.uint8)
    return cv2.LUT(moved, levels)  # type: ignore[return-value]


def light_batch(images: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """`light` for (n, height, width, 3) uint8 images, one seed each."""
    return np.stack([light(image, int(seed)) for image, seed in zip(images, seeds, strict=True)])
