"""Summarize each class from the headers of its files: counts, sizes and formats."""

import collections
import dataclasses
import statistics
from collections.abc import Sequence

from imgclf.core.errors import ImageError
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Progress
from imgclf.data.dataset import Dataset, Sample
from imgclf.images import header


@dataclasses.dataclass(frozen=True)
class ClassSummary:
    """One class: number of images, (width, height) in pixels, and (format, count) with the most frequent format first."""

    name: str
    count: int
    unreadable: int
    median_size: tuple[int, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    formats: tuple[tuple[str, int], ...]


def summarize(shown: Dataset, progress: Progress | None = None) -> tuple[ClassSummary, ...]:
    """Read the header of every file, but not the pixels, and summarize each class."""

    def one(sample: Sample) -> header.Header | None:
        try:
            return header.read_header(shown.root / sample.path)
        except ImageError:
            return None

    headers: dict[str, list[header.Header | None]] = {name: [] for name in shown.class_names}
    for done, (sample, head) in enumerate(zip(shown.samples, ordered_map(one, shown.samples), strict=True), 1):
        headers[sample.label or ""].append(head)
        if progress:
            progress(done, len(shown.samples))
    return tuple(_summarize_class(name, found) for name, found in headers.items())


def _summarize_class(name: str, headers: Sequence[header.Header | None]) -> ClassSummary:
    known = [head for head in headers if head]
    sizes = sorted(((head.width, head.height) for head in known), key=lambda size: size[0] * size[1]) or [(0, 0)]
    median = (round(statistics.median(w for w, _ in sizes)), round(statistics.median(h for _, h in sizes)))
    formats = collections.Counter(head.format for head in known)
    return ClassSummary(
        name, len(headers), len(headers) - len(known), median, sizes[0], sizes[-1], tuple(formats.most_common())
    )
