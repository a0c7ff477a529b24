"""`imgclf preview`: count the images of a data folder and draw a contact sheet."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import cv2

from imgclf.core.config import Preprocessing, PreviewConfig, Subset, TrainConfig
from imgclf.core.errors import ImgclfError
from imgclf.core.files.paths import StrPath
from imgclf.core.files.state_folder import check_outside, state_folder
from imgclf.core.progress import Progress
from imgclf.core.remedies import why
from imgclf.data import dataset, layout
from imgclf.data.dataset import Dataset
from imgclf.data.manifest import load_subsets, manifest_path, read_manifest
from imgclf.images import augment, decode
from imgclf.preview.contact_sheet import sheet
from imgclf.preview.summary import ClassSummary, summarize
from imgclf.reports import drawing


@dataclasses.dataclass(frozen=True)
class Preview:
    """Counts by class and a contact sheet.

    imbalance: Size of the largest class, divided by that of the smallest class with images.
    skipped: (path, reason) of files that are not images.
    path: Where the contact sheet was written.
    """

    data: str
    classes: tuple[ClassSummary, ...]
    imbalance: float
    skipped: tuple[tuple[str, str], ...]
    path: Path
    sheet: decode.Image
    shown: Dataset
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON: the counts, and the path of the contact sheet."""
        return {
            "schema": "preview/1",
            "data": self.data,
            "sheet": str(self.path),
            "imbalance": self.imbalance,
            "classes": [dataclasses.asdict(info) for info in self.classes],
            "skipped": [list(item) for item in self.skipped],
            "notes": list(self.notes),
        }


def preview(
    data: StrPath,
    config: PreviewConfig | None = None,
    *,
    feed: TrainConfig | None = None,
    out: StrPath | None = None,
    progress: Progress | None = None,
) -> Preview:
    """Count the images of a data folder, or of one subset of its split, and write a contact sheet.

    Args:
        feed: Show each image as the network's input in a training with this configuration, instead of the file.
        out: Path of the contact sheet (PNG); None for DATA/.imgclf/preview.png.

    Raises:
        ImgclfError: There are no images, or the contact sheet cannot be written.
    """
    data = Path(data)
    config = config or PreviewConfig()
    out = None if out is None else Path(out)
    out = out or state_folder(data) / "preview.png"
    check_png(out, data)
    shown, skipped, notes = load(data, config.subset)
    classes = summarize(shown, progress)
    counts = [info.count for info in classes]
    fed = None
    if feed:
        side = feed.image_size or dataset.auto_image_size(shown, feed.seed)
        fed = (Preprocessing(side, side, feed.aspect), augment.image_augmentation(feed.augment, feed.flip, len(shown.samples)))
    image = sheet(shown, classes, columns=config.columns, seed=config.seed, feed=fed)
    try:
        drawing.save(image, out)
    except OSError as error:
        raise ImgclfError(f"{out}: cannot be written: {why(error, 'choose another place with --out')}") from error
    imbalance = max(counts) / min(filter(None, counts))
    return Preview(str(data), classes, imbalance, tuple(skipped), out, image, shown, tuple(notes))


def load(data: Path, subset: Subset | None) -> tuple[Dataset, list[tuple[str, str]], list[str]]:
    """Return (dataset of a folder or of one subset of its split, (path, reason) of files that are not images, notes)."""
    if subset is None:
        whole, skipped = dataset.index(data)
        return whole, skipped, layout.merged_note(data, (sample.path for sample in whole.samples))
    path, folders = manifest_path(data), layout.subset_folders(data)
    if folders and not path.exists():  # already split by folders
        whole, skipped = dataset.index(data)
        inside = [sample.path for sample in whole.samples if folders[sample.path.split("/", 1)[0]] == subset]
        if not inside:
            raise ImgclfError(f"{data}: no {subset} folder with images; it has {', '.join(sorted(folders))}")
        return whole.subset(inside), [one for one in skipped if folders[one[0].split("/", 1)[0]] == subset], []
    manifest = read_manifest(path)
    subsets, notes = load_subsets(data, manifest)
    if not subsets[subset].samples:
        raise ImgclfError(f"{data}: the {subset} set of the split is empty")
    return subsets[subset], [], notes


def check_png(out: Path, data: Path, option: str = "--out") -> None:
    """Raise ImgclfError if `out` is not a PNG file, or lies in the data folder, where it would become a sample."""
    drawing.check_png(out, option)
    check_outside(out, option, data)


def has_display() -> bool:
    """Return whether a window can be opened."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(image: decode.Image) -> None:
    """Show an image in a window until a key is pressed; raises ImgclfError if there is no display."""
    if not has_display():
        raise ImgclfError("--show needs a display, and none was found; open the PNG instead")
    backend: Any = cv2.currentUIFramework() if hasattr(cv2, "currentUIFramework") else ""
    try:
        cv2.imshow("imgclf preview", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        while cv2.waitKey(100) < 0 and cv2.getWindowProperty("imgclf preview", cv2.WND_PROP_VISIBLE) >= 1:
            pass
        cv2.destroyAllWindows()
    except cv2.error as error:
        raise ImgclfError(
            f"--show: this OpenCV cannot open a window ({backend or 'headless build'}); install opencv-python, or open the PNG"
        ) from error
