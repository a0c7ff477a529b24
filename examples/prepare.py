"""Decode and resize an opaque JPEG or PNG for an exported network, by the preprocessing in the export. OpenCV 5, NumPy."""

import cv2
import numpy as np


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)  # INTER_AREA averages pixels when it shrinks
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def prepare(path: str, preprocessing: dict) -> np.ndarray:
    """Return the image as (1, height, width, 3) float32, RGB, 0 to 255."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise SystemExit(f"{path}: not an image that OpenCV can decode")
    if image.dtype == np.uint16:  # scale all 16 bits to 8
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    (height, width), tall, wide = image.shape[:2], preprocessing["height"], preprocessing["width"]
    if preprocessing["aspect"] == "crop":
        scale = max(wide / width, tall / height)
        w, h = min(width, max(1, round(wide / scale))), min(height, max(1, round(tall / scale)))
        left, top = (width - w) // 2, (height - h) // 2
        image = np.ascontiguousarray(image[top : top + h, left : left + w])
    if preprocessing["aspect"] == "pad":
        scale = min(wide / width, tall / height)
        w, h = min(wide, max(1, round(width * scale))), min(tall, max(1, round(height * scale)))
        left, top = (wide - w) // 2, (tall - h) // 2
        canvas = np.full((tall, wide, 3), 128, np.uint8)
        canvas[top : top + h, left : left + w] = resize(image, w, h)
        image = canvas
    return resize(image, wide, tall)[np.newaxis].astype(np.float32)
