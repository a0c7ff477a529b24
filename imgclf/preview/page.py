"""Scan every image, and write an HTML page and histograms."""

import collections
import dataclasses
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgclf.core.config import Subset
from imgclf.core.errors import ImgclfError
from imgclf.core.files.state_folder import command
from imgclf.core.progress import Progress, Stages, stage
from imgclf.data import file_index, inspection, issue_page, layout
from imgclf.data.checks import Issue
from imgclf.data.manifest import as_spelled, manifest_path, read_manifest
from imgclf.data.scanned import Scanned
from imgclf.reports import image_page


@dataclasses.dataclass(frozen=True)
class Survey:
    """The data of the page and the histograms.

    files: With the subset of each by folder or manifest.
    scanned: The measurements of the files, in the same order.
    """

    data: Path
    files: tuple[layout.DataFile, ...]
    scanned: Scanned
    issues: tuple[Issue, ...]

    def histograms(self) -> list[image_page.Histogram]:
        """Return the histograms of size, aspect ratio and brightness by class, of the images that decode."""
        measured = self.scanned.measurements
        labels = np.array([file.label or "" for file in self.files])
        result = []
        for name in sorted(set(labels.tolist()) - {""}):
            own = measured[(labels == name) & self.scanned.usable()]
            result.append(image_page.histogram(name, own["width"], own["height"], own["brightness"]))
        return result

    def histograms_to_dict(self) -> dict[str, Any]:
        """Return the histograms as JSON: the edges of the bins, and the counts by class."""
        edges = {"size": image_page.SIZES, "aspect": image_page.ASPECTS, "brightness": image_page.BRIGHTNESSES}
        return {"edges": edges, "classes": [dataclasses.asdict(one) for one in self.histograms()]}


def survey(data: Path, subset: Subset | None, progress: Stages | None = None) -> Survey:
    """Scan every file and run the checks of `clean`. Files that are in the index are not read again.

    Raises ImgclfError if `subset` has no files.
    """
    with file_index.images(data, progress=stage(progress, "decoding")) as (scanned, found, _chosen, _skipped):
        path = manifest_path(data)
        if path.exists():
            manifest = as_spelled(read_manifest(path), scanned.paths)
            subset_of = {row.path: row.split for row in manifest.rows}
            found = [dataclasses.replace(file, subset=subset_of.get(file.path, file.subset)) for file in found]
        issues = inspection.find(scanned, found, progress=stage(progress, "comparing"))
    if subset:
        kept = [index for index, file in enumerate(found) if file.subset == subset]
        if not kept:
            raise ImgclfError(f"{data}: the {subset} set is empty, or the folder is not split; run {command('split', data)}")
        scanned = scanned.subset(kept)
        found = [found[index] for index in kept]
        paths = set(scanned.paths)
        issues = [issue for issue in issues if issue.path in paths]
    return Survey(data, tuple(found), scanned, tuple(issues))


def write_page(result: Survey, path: Path, *, limit: int, seed: int, progress: Progress | None = None) -> None:
    """Write a self-contained HTML page with thumbnails, filters and histograms.

    If there are more than `limit` images, the page shows random samples of every class.
    """
    chosen = sorted(_sampled(result.files, limit, seed))
    known = issue_page.measured(result.files, result.scanned.measurements)
    images = issue_page.with_issues(known, (result.files[index].path for index in chosen), result.issues, lambda _issue: "")
    about = f"{len(result.files):,} files, {len({issue.path for issue in result.issues}):,} with issues"
    if len(chosen) < len(result.files):
        about += f"; {len(chosen):,} files are shown, random samples of every class (raise --limit to show more)"
    page = image_page.Page(str(result.data), about, "class", issue_page.checks(result.issues), result.histograms())
    image_page.write(path, result.data, images, page, progress)


def _sampled(files: Sequence[layout.DataFile], limit: int, seed: int) -> set[int]:
    """Return the indices of at most `limit` random files, taken from the classes in turn."""
    by_class: dict[str, list[int]] = collections.defaultdict(list)
    for index, file in enumerate(files):
        by_class[file.label or ""].append(index)
    for name, own in by_class.items():
        random.Random(f"{seed}:{name}").shuffle(own)
    turns = itertools.zip_longest(*(by_class[name] for name in sorted(by_class)))
    return set(itertools.islice((index for turn in turns for index in turn if index is not None), limit))


def write_histograms(result: Survey, path: Path) -> None:
    """Write the histograms as PNG."""
    from imgclf.reports import plots

    plots.save(plots.histograms(result.histograms(), str(result.data)), path)
