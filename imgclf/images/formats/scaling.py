"""Scale samples to 8 bits by their depth, blend transparency with white, and apply orientation. Shared by all decoders.

The depth is the declared one (PNG sBIT, TIFF BitsPerSample, PNM maxval, AVIF av1C), or all bits of the sample. It never depends
on the values in the image, so that all frames of one camera are scaled equally.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImageError

MAX_EXCESS = 0.25  # floating-point values may lie this far outside 0..1, as after resampling; they are clipped


def to_uint8(values: NDArray[Any], max_value: int) -> NDArray[np.uint8]:
    """Scale unsigned samples from 0..max_value to 0..255, rounded. Larger values are clipped."""
    if max_value == 255 and values.dtype == np.uint8:
        return values
    if values.dtype == np.uint8 or max_value % 2 == 0:  # OpenCV would round halves to even numbers
        table = (
            ((np.arange(1 << (8 * values.dtype.itemsize)) * 255 + max_value // 2) // max_value).clip(max=255).astype(np.uint8)
        )
        flat = np.ascontiguousarray(values).reshape(len(values), -1)
        return np.asarray(cv2.LUT(flat, table) if flat.dtype == np.uint8 else table[flat], np.uint8).reshape(values.shape)
    return np.asarray(cv2.convertScaleAbs(values, alpha=255 / max_value), np.uint8).reshape(values.shape)


def unit_to_uint8(values: NDArray[Any], kind: str) -> NDArray[np.uint8]:
    """Scale floating-point samples from 0 (black) to 1 (white) to 0..255.

    Values up to MAX_EXCESS outside 0..1 are clipped. Values further outside belong to another scale, which no file declares:
    they raise ImageError `unsupported`.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= -MAX_EXCESS and high <= 1 + MAX_EXCESS):  # also true for NaN
        raise ImageError(
            "unsupported",
            f"{kind} with floating-point values from {low:.3g} to {high:.3g}; only 0 to 1 is supported: rescale the values",
        )
    return np.asarray((values.clip(0, 1) * np.float32(255)).round(), np.uint8)


def over_white(colours: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool = False) -> None:
    """Blend colours (h, w, 3) with white by alpha (h, w), in place.

    premultiplied: whether the colours are already multiplied by alpha.
    """
    for top in range(0, len(colours), 256):  # in strips: a uint16 copy of a whole image takes too much memory
        strip, weight = colours[top : top + 256], alpha[top : top + 256, :, np.newaxis].astype(np.uint16)
        if premultiplied:
            strip[:] = (strip + (255 - weight)).clip(max=255)
        else:
            strip[:] = (strip * weight + 255 * (255 - weight) + 127) // 255


def orient(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and flip an image by its EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
