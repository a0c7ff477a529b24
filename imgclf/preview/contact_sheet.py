"""Contact sheets: one row of sample images for each class, as an image or for a terminal."""

import random
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImageError
from imgclf.core.parallel import ordered_map
from imgclf.data.dataset import Dataset, Sample
from imgclf.images import augment, decode, preprocess
from imgclf.preview.summary import ClassSummary
from imgclf.reports import drawing

TILE = 112  # pixels a side
GAP = 6
TEXT = 190  # width of the text column in pixels


def sheet(
    shown: Dataset,
    classes: Sequence[ClassSummary],
    *,
    columns: int = 8,
    seed: int = 0,
    feed: tuple[Preprocessing, augment.ImageAugmentation] | None = None,
) -> decode.Image:
    """Return a contact sheet, (h, w, 3) uint8 RGB: one row for each class, with its name, count, sizes and random samples.

    Args:
        columns: Number of samples of each class.
        feed: (preprocessing, seeded augmentation) to show the network's inputs in training instead of the files.
    """
    drawn = _drawn(shown, columns, seed)
    flat = [sample for samples in drawn.values() for sample in samples]
    tiles = dict(zip((s.path for s in flat), ordered_map(lambda s: _tile(shown.root, s, seed, feed), flat), strict=True))
    row_height = TILE + 2 * GAP
    canvas = np.full((row_height * len(drawn) + GAP, TEXT + columns * (TILE + GAP) + GAP, 3), drawing.PAPER, np.uint8)
    for row, info in enumerate(classes):
        top = row * row_height + GAP
        drawing.write(canvas, drawing.shorten(info.name, 20), 12, top + 36, drawing.INK, 17)
        plural = "image" if info.count == 1 else "images"
        drawing.write(canvas, f"{info.count:,} {plural}", 12, top + 60, drawing.SOFT, 13)
        drawing.write(canvas, f"median {info.median_size[0]} x {info.median_size[1]} px", 12, top + 80, drawing.SOFT, 13)
        for column, sample in enumerate(drawn[info.name]):
            left = TEXT + column * (TILE + GAP)
            canvas[top : top + TILE, left : left + TILE] = tiles[sample.path]
        if row:
            cv2.line(canvas, (12, top - GAP), (canvas.shape[1] - 12, top - GAP), (225, 225, 222), 1)
    return canvas


def _tile(root: Path, sample: Sample, seed: int, feed: tuple[Preprocessing, augment.ImageAugmentation] | None) -> decode.Image:
    try:
        image = decode.decode(decode.read(root / sample.path))
    except ImageError:
        tile = np.full((TILE, TILE, 3), (235, 225, 225), np.uint8)
        drawing.write(tile, "unreadable", 18, TILE // 2, (160, 40, 40), 13)
        return tile
    if feed:
        preprocessing, change = feed
        image = change(preprocess.apply(preprocessing, image), random.Random(f"{seed}:{sample.path}").getrandbits(62))
        if max(preprocessing.width, preprocessing.height) > TILE:
            return preprocess.resize(image, TILE, TILE)
        # Enlarge without interpolation, so that the real pixels are visible.
        return cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]
    small = preprocess.fit(image, TILE)
    height, width = small.shape[:2]
    left, top = (TILE - width) // 2, (TILE - height) // 2
    tile = np.full((TILE, TILE, 3), (238, 238, 236), np.uint8)
    tile[top : top + height, left : left + width] = small
    return tile


STRIP = 16  # pixels a side of a thumbnail in the terminal, which takes 16 columns and 8 lines


def strip(shown: Dataset, *, columns: int, seed: int = 0) -> list[tuple[str, decode.Image, list[str]]]:
    """Return (class, (STRIP, columns * (STRIP + 1), 3) uint8 RGB, paths) for each row of a contact sheet in a terminal."""
    rows = []
    for name, samples in _drawn(shown, columns, seed).items():
        image = np.zeros((STRIP, columns * (STRIP + 1), 3), np.uint8)
        for column, tile in enumerate(ordered_map(lambda sample: _tile(shown.root, sample, seed, None), samples)):
            left = column * (STRIP + 1)
            image[:, left : left + STRIP] = preprocess.resize(tile, STRIP, STRIP)
        rows.append((name, image, [sample.path for sample in samples]))
    return rows


def _drawn(shown: Dataset, columns: int, seed: int) -> dict[str, list[Sample]]:
    """Draw random samples of every class, reproducible by seed."""
    by_class: dict[str, list[Sample]] = {name: [] for name in shown.class_names}
    for sample in shown.samples:
        by_class[sample.label or ""].append(sample)
    return {
        name: random.Random(f"{seed}:{name}").sample(samples, min(columns, len(samples))) for name, samples in by_class.items()
    }
