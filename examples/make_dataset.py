"""Make a small data set of real photographs, offline: python make_dataset.py SCIKIT_IMAGE_WHEEL OUTPUT_FOLDER

The wheel of scikit-image contains three photographs of surfaces under CC0 (brick, grass, gravel; 512 x 512 grey). Each is cut
into 100 tiles that do not overlap. Ten faulty files are added, such as occur in real folders: damaged, misnamed, or not images.
"""

import io
import sys
import zipfile
from pathlib import Path

from PIL import Image

SURFACES = ("brick", "grass", "gravel")
TILE = 51  # 10 x 10 tiles of a 512-pixel photograph


def main(wheel: str, output: str) -> None:
    root = Path(output)
    with zipfile.ZipFile(wheel) as archive:
        for name in SURFACES:
            cut(Image.open(io.BytesIO(archive.read(f"skimage/data/{name}.png"))).convert("L"), root / name)
    plant_faults(root)
    print(f"{root}: {sum(path.is_file() for path in root.rglob('*'))} files in {len(SURFACES)} classes, ten of them faulty")


def cut(photo: Image.Image, folder: Path) -> None:
    folder.mkdir(parents=True)
    for row in range(10):
        for column in range(10):
            left, top = column * TILE, row * TILE
            photo.crop((left, top, left + TILE, top + TILE)).save(folder / f"{row}{column}.jpg", quality=92)


def plant_faults(root: Path) -> None:
    good = (root / "brick" / "00.jpg").read_bytes()
    (root / "brick" / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (root / "brick" / "empty.jpg").write_bytes(b"")
    (root / "grass" / "not-found.jpg").write_bytes(b"<!DOCTYPE html><html><body>404 Not Found</body></html>")
    (root / "grass" / "notes.txt").write_text("photographed on a Sunday\n", encoding="utf-8")
    (root / "gravel" / "header-only.jpg").write_bytes(good[:200])
    (root / "gravel" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    for folder, number, form, suffix in [
        ("brick", "01", "PNG", ".jpg"),
        ("grass", "02", "JPEG", ".png"),
        ("gravel", "03", "WEBP", ".jpg"),
        ("gravel", "04", "JPEG", ""),
    ]:
        path = root / folder / f"{number}.jpg"
        image = Image.open(path)
        image.load()
        path.unlink()
        image.save(path.with_suffix(suffix), form)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
