"""`imgclf preview`: what is in a data folder, as figures and as a contact sheet drawn with OpenCV."""

import collections
import dataclasses
import itertools
import os
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np

from imgclf.core.config import Part, Recipe, Seed, TrainConfig
from imgclf.core.errors import ImageError, ImgclfError
from imgclf.core.fields import Within, check
from imgclf.core.files.state_folder import check_output, check_outside, command, state_folder
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Progress, Stages, stage
from imgclf.core.remedies import why
from imgclf.data import file_index, issues, layout
from imgclf.data.layout import Dataset, Sample
from imgclf.data.manifest import as_spelled, load_parts, manifest_path, read_manifest
from imgclf.images import augment, decode, preprocess
from imgclf.reports import drawing, image_page

TILE = 112  # pixels a side
GAP = 6
TEXT = 190  # width of the column of names


@dataclasses.dataclass(frozen=True)
class ClassSummary:
    """One class: how many pictures, their sizes in pixels, and their formats, commonest first."""

    name: str
    count: int
    unreadable: int
    median_size: tuple[int, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    formats: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Preview:
    """Figures by class, the largest class as a multiple of the smallest that has pictures, and files that are no pictures."""

    data: str
    classes: tuple[ClassSummary, ...]
    imbalance: float
    left_out: tuple[tuple[str, str], ...]
    path: Path
    sheet: decode.Image
    shown: Dataset
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the figures and where the sheet lies."""
        return {
            "schema": "preview/1",
            "data": self.data,
            "sheet": str(self.path),
            "imbalance": self.imbalance,
            "classes": [dataclasses.asdict(info) for info in self.classes],
            "left_out": [list(item) for item in self.left_out],
            "notes": list(self.notes),
        }


def preview(
    data: Path,
    *,
    part: Part | None = None,
    feed: TrainConfig | None = None,
    columns: int = 8,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Preview:
    """Count a data folder, or one part of its split, and write its contact sheet to `out` (DATA/.imgclf/preview.png if None).

    feed: show each picture as a training with this configuration is fed it, instead of the photograph. Raises ImgclfError.
    """
    check("columns", columns, Annotated[int, Within(1, 40)])
    check("seed", seed, Seed)
    out = out or state_folder(data) / "preview.png"
    check_png(out, data)
    shown, left_out, notes = load(data, part)
    classes = summarize(shown, progress)
    counts = [info.count for info in classes]
    fed = None
    if feed:
        side = feed.image_size or layout.auto_image_size(shown, feed.seed)
        fed = (Recipe(side, side, feed.aspect), augment.changes(feed.augment, feed.flip, len(shown.samples)))
    picture = sheet(shown, classes, columns=columns, seed=seed, feed=fed)
    try:
        drawing.save(picture, out)
    except OSError as error:
        raise ImgclfError(f"{out}: cannot be written: {why(error, 'choose another place with --out')}") from error
    imbalance = max(counts) / min(filter(None, counts))
    return Preview(str(data), classes, imbalance, tuple(left_out), out, picture, shown, tuple(notes))


def load(data: Path, part: Part | None) -> tuple[Dataset, list[tuple[str, str]], list[str]]:
    """The data set to preview, all of a folder or one part of its split; files that are no pictures; notes."""
    if part is None:
        whole, left_out = layout.index(data)
        return whole, left_out, layout.merged_note(data, (sample.path for sample in whole.samples))
    path, folders = manifest_path(data), layout.part_folders(data)
    if folders and not path.exists():  # used with the parts as they are
        whole, left_out = layout.index(data)
        inside = [sample.path for sample in whole.samples if folders[sample.path.split("/", 1)[0]] == part]
        if not inside:
            raise ImgclfError(f"{data}: no {part} folder with pictures; it has {', '.join(sorted(folders))}")
        return whole.subset(inside), [one for one in left_out if folders[one[0].split("/", 1)[0]] == part], []
    manifest = read_manifest(path)
    parts, notes = load_parts(data, manifest)
    if not parts[part].samples:
        raise ImgclfError(f"{data}: the {part} part of the split is empty")
    return parts[part], [], notes


def summarize(shown: Dataset, progress: Progress | None = None) -> tuple[ClassSummary, ...]:
    """Read every header (not the pixels) and count."""

    def one(sample: Sample) -> decode.Header | None:
        try:
            return decode.read_header(shown.root / sample.path)
        except ImageError:
            return None

    headers: dict[str, list[decode.Header | None]] = {name: [] for name in shown.class_names}
    for done, (sample, head) in enumerate(zip(shown.samples, ordered_map(one, shown.samples), strict=True), 1):
        headers[sample.label or ""].append(head)
        if progress:
            progress(done, len(shown.samples))
    return tuple(_summarize_class(name, found) for name, found in headers.items())


def _summarize_class(name: str, headers: Sequence[decode.Header | None]) -> ClassSummary:
    known = [head for head in headers if head]
    sizes = sorted(((head.width, head.height) for head in known), key=lambda size: size[0] * size[1]) or [(0, 0)]
    median = (round(statistics.median(w for w, _ in sizes)), round(statistics.median(h for _, h in sizes)))
    formats = collections.Counter(head.format for head in known)
    return ClassSummary(
        name, len(headers), len(headers) - len(known), median, sizes[0], sizes[-1], tuple(formats.most_common())
    )


def sheet(
    shown: Dataset,
    classes: Sequence[ClassSummary],
    *,
    columns: int = 8,
    seed: int = 0,
    feed: tuple[Recipe, augment.ChangeOne] | None = None,
) -> decode.Image:
    """A contact sheet, (h, w, 3) uint8 RGB: a row of drawn samples a class, with name, count and sizes.

    feed: (recipe, what changes a picture by a seed) to show each picture as the network is fed it, instead of the photograph.
    """
    drawn = _drawn(shown, columns, seed)
    flat = [sample for samples in drawn.values() for sample in samples]
    tiles = dict(zip((s.path for s in flat), ordered_map(lambda s: _tile(shown.root, s, seed, feed), flat), strict=True))
    row_height = TILE + 2 * GAP
    canvas = np.full((row_height * len(drawn) + GAP, TEXT + columns * (TILE + GAP) + GAP, 3), drawing.PAPER, np.uint8)
    for row, info in enumerate(classes):
        top = row * row_height + GAP
        drawing.write(canvas, drawing.shorten(info.name, 20), 12, top + 36, drawing.INK, 17)
        plural = "picture" if info.count == 1 else "pictures"
        drawing.write(canvas, f"{info.count:,} {plural}", 12, top + 60, drawing.SOFT, 13)
        drawing.write(canvas, f"median {info.median_size[0]} x {info.median_size[1]} px", 12, top + 80, drawing.SOFT, 13)
        for column, sample in enumerate(drawn[info.name]):
            left = TEXT + column * (TILE + GAP)
            canvas[top : top + TILE, left : left + TILE] = tiles[sample.path]
        if row:
            cv2.line(canvas, (12, top - GAP), (canvas.shape[1] - 12, top - GAP), (225, 225, 222), 1)
    return canvas


def _tile(root: Path, sample: Sample, seed: int, feed: tuple[Recipe, augment.ChangeOne] | None) -> decode.Image:
    try:
        picture = decode.decode(decode.read(root / sample.path))
    except ImageError:
        tile = np.full((TILE, TILE, 3), (235, 225, 225), np.uint8)
        drawing.write(tile, "unreadable", 18, TILE // 2, (160, 40, 40), 13)
        return tile
    if feed:
        recipe, change = feed
        picture = change(preprocess.apply(recipe, picture), random.Random(f"{seed}:{sample.path}").getrandbits(62))
        if max(recipe.width, recipe.height) > TILE:
            return preprocess.resize(picture, TILE, TILE)
        # Enlarged without smoothing, so that the pixels are seen as they are.
        return cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]
    small = preprocess.fit(picture, TILE)
    height, width = small.shape[:2]
    left, top = (TILE - width) // 2, (TILE - height) // 2
    tile = np.full((TILE, TILE, 3), (238, 238, 236), np.uint8)
    tile[top : top + height, left : left + width] = small
    return tile


def check_png(out: Path, data: Path, option: str = "--out") -> None:
    """Refuse what is no PNG file, and places in the data set, where the picture would become a sample."""
    drawing.check_png(out, option)
    check_outside(out, option, data)


# -- in the terminal, and as a page -------------------------------------------------------------------------------------------

STRIP = 16  # pixels a side of a thumbnail in the terminal: as many columns, and half as many lines


def strip(shown: Dataset, *, columns: int, seed: int = 0) -> list[tuple[str, decode.Image, list[str]]]:
    """(class, (STRIP, columns * (STRIP + 1), 3) uint8 RGB, paths): the first samples of the sheet's rows, for a terminal."""
    rows = []
    for name, samples in _drawn(shown, columns, seed).items():
        picture = np.zeros((STRIP, columns * (STRIP + 1), 3), np.uint8)
        for column, tile in enumerate(ordered_map(lambda sample: _tile(shown.root, sample, seed, None), samples)):
            left = column * (STRIP + 1)
            picture[:, left : left + STRIP] = preprocess.resize(tile, STRIP, STRIP)
        rows.append((name, picture, [sample.path for sample in samples]))
    return rows


def _drawn(shown: Dataset, columns: int, seed: int) -> dict[str, list[Sample]]:
    """Samples of every class drawn at random, the same for the same seed."""
    by_class: dict[str, list[Sample]] = {name: [] for name in shown.class_names}
    for sample in shown.samples:
        by_class[sample.label or ""].append(sample)
    return {
        name: random.Random(f"{seed}:{name}").sample(samples, min(columns, len(samples))) for name, samples in by_class.items()
    }


def has_display() -> bool:
    """Whether a window could be opened here."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@dataclasses.dataclass(frozen=True)
class Survey:
    """Everything that a page or histograms show: facts by file, findings, and each file's part (by folder or manifest)."""

    data: Path
    files: tuple[layout.Found, ...]
    catalogue: file_index.Catalogue
    findings: tuple[issues.Finding, ...]

    def histograms(self) -> list[image_page.Histogram]:
        """Sizes, aspect ratios and brightness by class, of the pictures that decode."""
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
    with file_index.pictures(data, progress=stage(progress, "decoding")) as (catalogue, found, _chosen, _left_out):
        path = manifest_path(data)
        if path.exists():
            manifest = as_spelled(read_manifest(path), catalogue.paths)
            part_of = {row.path: row.split for row in manifest.rows}
            found = [dataclasses.replace(file, part=part_of.get(file.path, file.part)) for file in found]
        findings = issues.find(catalogue, found, progress=stage(progress, "comparing"))
    if part:
        kept = [index for index, file in enumerate(found) if file.part == part]
        if not kept:
            raise ImgclfError(f"{data}: the {part} set is empty, or the folder is not split; run {command('split', data)}")
        catalogue = catalogue.subset(kept)
        found = [found[index] for index in kept]
        paths = set(catalogue.paths)
        findings = [finding for finding in findings if finding.path in paths]
    return Survey(data, tuple(found), catalogue, tuple(findings))


def check_page(path: Path, data: Path) -> None:
    """Refuse a place for the page before anything is read."""
    check_output(path, data, ".html", image_page.START, "--html")


def write_page(result: Survey, path: Path, *, limit: int, seed: int, progress: Progress | None = None) -> None:
    """A self-contained page with thumbnails, filters and histograms; of more than `limit` pictures a sample of every class."""
    by_path: dict[str, list[issues.Finding]] = collections.defaultdict(list)
    for finding in result.findings:
        by_path[finding.path].append(finding)
    label = {file.path: file.label or "" for file in result.files}
    size = {
        file.path: (int(facts["width"]), int(facts["height"]))
        for file, facts in zip(result.files, result.catalogue.facts, strict=True)
    }
    chosen = _sampled(result.files, limit, seed)
    pictures = []
    for index, (file, facts) in enumerate(zip(result.files, result.catalogue.facts, strict=True)):
        if index in chosen:
            own = by_path.get(file.path, [])
            findings = tuple((finding.check, finding.score, "", finding.detail) for finding in own)
            other = next((finding.other for finding in own if finding.other), "")
            pictures.append(
                image_page.Picture(
                    file.path, file.label or "", file.part or "", facts["format"].decode(), *size[file.path], findings,
                    other=other, other_label=label.get(other, ""), other_size=size.get(other, (0, 0)),
                )
            )  # fmt: skip
    counted = collections.Counter(check for _path, check in {(finding.path, finding.check) for finding in result.findings})
    about = f"{len(result.files):,} files, {len(by_path):,} with findings"
    if len(chosen) < len(result.files):
        about += f"; {len(chosen):,} of them shown, drawn from every class (--limit shows more)"
    image_page.write(
        path, result.data, pictures, title=str(result.data), about=about, group="class", histograms=result.histograms(),
        checks={name: (counted[name], issues.CHECKS[name].meaning) for name in issues.CHECKS if counted[name]},
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


def show(picture: decode.Image) -> None:
    """Show a sheet in a window until a key is pressed; raises ImgclfError where there is no display."""
    if not has_display():
        raise ImgclfError("--show needs a display and there is none here; open the PNG instead")
    backend: Any = cv2.currentUIFramework() if hasattr(cv2, "currentUIFramework") else ""
    try:
        cv2.imshow("imgclf preview", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        while cv2.waitKey(100) < 0 and cv2.getWindowProperty("imgclf preview", cv2.WND_PROP_VISIBLE) >= 1:
            pass
        cv2.destroyAllWindows()
    except cv2.error as error:
        raise ImgclfError(
            f"--show: this OpenCV cannot open a window ({backend or 'headless build'}); install opencv-python, or open the PNG"
        ) from error
