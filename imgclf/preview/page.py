"""Measure every image, for a page to browse and for histograms."""

import collections
import dataclasses
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgclf.core.config import Part
from imgclf.core.errors import ImgclfError
from imgclf.core.files.state_folder import check_output, command
from imgclf.core.progress import Progress, Stages, stage
from imgclf.data import file_index, inspection, layout
from imgclf.data.catalogue import Catalogue
from imgclf.data.checks import CHECKS, Issue
from imgclf.data.manifest import as_spelled, manifest_path, read_manifest
from imgclf.reports import image_page


@dataclasses.dataclass(frozen=True)
class Survey:
    """Everything that a page or histograms show: facts by file, issues, and each file's part (by folder or manifest)."""

    data: Path
    files: tuple[layout.Found, ...]
    catalogue: Catalogue
    issues: tuple[Issue, ...]

    def histograms(self) -> list[image_page.Histogram]:
        """Sizes, aspect ratios and brightness by class, of the images that decode."""
        facts = self.catalogue.facts
        labels = np.array([file.label or "" for file in self.files])
        result = []
        for name in sorted(set(labels.tolist()) - {""}):
            own = facts[(labels == name) & self.catalogue.usable()]
            result.append(image_page.histogram(name, own["width"], own["height"], own["brightness"]))
        return result

    def histograms_to_dict(self) -> dict[str, Any]:
        """For JSON: the edges of the bins, and counts by class."""
        edges = {"size": image_page.SIZES, "aspect": image_page.ASPECTS, "brightness": image_page.BRIGHTNESSES}
        return {"edges": edges, "classes": [dataclasses.asdict(one) for one in self.histograms()]}


def survey(data: Path, part: Part | None, progress: Stages | None = None) -> Survey:
    """Look at every file once, or find what is known of it, and check it as `clean` does. Raises ImgclfError."""
    with file_index.images(data, progress=stage(progress, "decoding")) as (catalogue, found, _chosen, _skipped):
        path = manifest_path(data)
        if path.exists():
            manifest = as_spelled(read_manifest(path), catalogue.paths)
            part_of = {row.path: row.split for row in manifest.rows}
            found = [dataclasses.replace(file, part=part_of.get(file.path, file.part)) for file in found]
        issues = inspection.find(catalogue, found, progress=stage(progress, "comparing"))
    if part:
        kept = [index for index, file in enumerate(found) if file.part == part]
        if not kept:
            raise ImgclfError(f"{data}: the {part} set is empty, or the folder is not split; run {command('split', data)}")
        catalogue = catalogue.subset(kept)
        found = [found[index] for index in kept]
        paths = set(catalogue.paths)
        issues = [issue for issue in issues if issue.path in paths]
    return Survey(data, tuple(found), catalogue, tuple(issues))


def check_page(path: Path, data: Path) -> None:
    """Refuse a place for the page before anything is read."""
    check_output(path, data, ".html", image_page.START, "--html")


def write_page(result: Survey, path: Path, *, limit: int, seed: int, progress: Progress | None = None) -> None:
    """A self-contained page with thumbnails, filters and histograms; of more than `limit` images a sample of every class."""
    by_path: dict[str, list[Issue]] = collections.defaultdict(list)
    for issue in result.issues:
        by_path[issue.path].append(issue)
    label = {file.path: file.label or "" for file in result.files}
    size = {
        file.path: (int(facts["width"]), int(facts["height"]))
        for file, facts in zip(result.files, result.catalogue.facts, strict=True)
    }
    chosen = _sampled(result.files, limit, seed)
    images = []
    for index, (file, facts) in enumerate(zip(result.files, result.catalogue.facts, strict=True)):
        if index in chosen:
            own = by_path.get(file.path, [])
            issues = tuple((issue.check, issue.score, "", issue.detail) for issue in own)
            other = next((issue.other for issue in own if issue.other), "")
            images.append(
                image_page.Image(
                    file.path, file.label or "", file.part or "", facts["format"].decode(), *size[file.path], issues,
                    other=other, other_label=label.get(other, ""), other_size=size.get(other, (0, 0)),
                )
            )  # fmt: skip
    counted = collections.Counter(check for _path, check in {(issue.path, issue.check) for issue in result.issues})
    about = f"{len(result.files):,} files, {len(by_path):,} with issues"
    if len(chosen) < len(result.files):
        about += f"; {len(chosen):,} of them shown, drawn from every class (--limit shows more)"
    image_page.write(
        path, result.data, images, title=str(result.data), about=about, group="class", histograms=result.histograms(),
        checks={name: (counted[name], CHECKS[name].meaning) for name in CHECKS if counted[name]},
        progress=progress,
    )  # fmt: skip


def _sampled(files: Sequence[layout.Found], limit: int, seed: int) -> set[int]:
    """Indices of at most `limit` files, the classes in turn."""
    by_class: dict[str, list[int]] = collections.defaultdict(list)
    for index, file in enumerate(files):
        by_class[file.label or ""].append(index)
    for name, own in by_class.items():
        random.Random(f"{seed}:{name}").shuffle(own)
    turns = itertools.zip_longest(*(by_class[name] for name in sorted(by_class)))
    return set(itertools.islice((index for turn in turns for index in turn if index is not None), limit))


def write_histograms(result: Survey, path: Path) -> None:
    """The histograms as PNG, by Matplotlib."""
    from imgclf.reports import plots

    plots.save(plots.histograms(result.histograms(), str(result.data)), path)
