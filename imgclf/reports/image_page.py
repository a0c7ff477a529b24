"""Write images as one self-contained HTML page with thumbnails, issues, filters and histograms.

The page loads no script or style from elsewhere.
"""

import base64
import dataclasses
import json
import os
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImageError
from imgclf.core.files import atomic
from imgclf.core.files.state_folder import check_output
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Progress
from imgclf.images import decode, preprocess

START = "<!doctype html><!-- imgclf -->"  # marks a file that imgclf wrote and may overwrite
TEMPLATE = Path(__file__).parent / "page" / "images.html"
THUMBNAIL = 160  # pixels on the longer side

# Edges of the histograms' bins: pixels of the shorter side, width : height, brightness.
SIZES = (0, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 1 << 32)
ASPECTS = (0, 0.33, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.01, 1.12, 1.25, 1.43, 1.67, 2, 3, 1 << 32)
BRIGHTNESSES = tuple(step / 16 for step in range(17))


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """One image of the page.

    issues: (check, score, action, detail).
    other: Path of an image to show beside it; other_label and other_size are its class and (width, height).
    now, other_now: Where the files are now, if they are no longer at `path` and `other`.
    """

    path: str
    label: str
    subset: str
    format: str
    width: int
    height: int
    issues: tuple[tuple[str, float, str, str], ...] = ()
    other: str = ""
    other_label: str = ""
    other_size: tuple[int, int] = (0, 0)
    now: str = ""
    other_now: str = ""


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Images of one class by size, aspect ratio and brightness, in the bins of SIZES, ASPECTS and BRIGHTNESSES."""

    label: str
    count: int
    size: tuple[int, ...]
    aspect: tuple[int, ...]
    brightness: tuple[int, ...]


def histogram(label: str, width: NDArray[Any], height: NDArray[Any], brightness: NDArray[Any]) -> Histogram:
    """Count the images of one class in bins. width, height: (n,) pixels. brightness: (n,) 0 to 1."""
    bins = (
        (np.minimum(width, height), SIZES), (width / np.maximum(1, height), ASPECTS), (brightness, BRIGHTNESSES),
    )  # fmt: skip
    counts = [tuple(np.histogram(values, edges)[0].tolist()) for values, edges in bins]
    return Histogram(label, len(width), *counts)


@dataclasses.dataclass(frozen=True)
class Page:
    """The content of the page besides the images.

    about: A line below the title.
    group: The initial grouping of the images.
    checks: (number of files, meaning) by check.
    classes: If not empty, the user can choose an action for each image, and save a CSV file for `clean --apply`.
    """

    title: str
    about: str
    group: Literal["issue", "class", "split"]
    checks: Mapping[str, tuple[int, str]]
    histograms: Sequence[Histogram] = ()
    classes: Sequence[str] = ()


def check_place(path: Path, data: Path) -> None:
    """Raise ImgclfError if `path` cannot be written, or is a file that imgclf did not write. Call it before any other work."""
    check_output(path, data, ".html", START, "--html")


def write(path: Path, root: Path, images: Sequence[Image], page: Page, progress: Progress | None = None) -> None:
    """Write the page image by image, so that the thumbnails are never all in memory."""
    head = {
        "title": page.title,
        "about": page.about,
        "group": page.group,
        "checks": {name: {"count": count, "meaning": meaning} for name, (count, meaning) in page.checks.items()},
        "ends": {"size": ["0", "4096+"], "aspect": ["1:3", "3:1"], "brightness": ["black", "white"]},
        "classes": list(page.classes),
        "histograms": [dataclasses.asdict(one) for one in page.histograms],
    }
    before, after = TEMPLATE.read_text("utf-8").split("@DATA@")

    def lines() -> Iterator[str]:
        yield before + _json(head)[:-1] + ',"images":[\n'
        made = ordered_map(lambda image: _thumbnails(root, image), images)
        for number, (image, (thumbnail, beside)) in enumerate(zip(images, made, strict=True), 1):
            href, other_href = (
                _link(root, image.now or image.path, path),
                _link(root, image.other_now or image.other, path),
            )
            links = {"href": href, "other_href": other_href}
            entry = dataclasses.asdict(image) | links | {"thumbnail": thumbnail, "beside": beside}
            yield _json(entry) + (",\n" if number < len(images) else "\n")
            if progress:
                progress(number, len(images))
        yield "]}" + after

    atomic.write_lines(path, lines())


def _link(root: Path, name: str, page: Path) -> str:
    """Return the URL of an image, relative to the page."""
    return urllib.parse.quote(os.fsencode(Path(os.path.relpath(root / name, page.resolve().parent)).as_posix()))


def _json(value: object) -> str:
    """Return JSON that is safe inside a script element: it cannot close the element."""
    return json.dumps(value).replace("<", "\\u003c")


def _thumbnails(root: Path, image: Image) -> tuple[str, str]:
    """Return the thumbnails of the image and of the other image, which is "" if there is none."""
    own = _thumbnail(root / (image.now or image.path))
    return own, _thumbnail(root / (image.other_now or image.other)) if image.other else ""


def _thumbnail(path: Path) -> str:
    """Return a small JPEG in base64; "" for an unusable file."""
    try:
        image = decode.decode(decode.read(path))
    except ImageError:
        return ""
    side = min(THUMBNAIL, max(image.shape[:2]))
    return base64.b64encode(preprocess.encode(preprocess.fit(image, side), ".jpg")).decode()
