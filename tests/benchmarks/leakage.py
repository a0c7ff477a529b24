"""Plant changed copies of real photographs, and count how many imgclf's split and a plain random split separate.

    python tests/benchmarks/leakage.py PHOTOS --copies 300

PHOTOS: class folders, which are copied first. Each copy is of another photo and in its class: recompressed, resized, cropped by
3% per side, brightened by 1.3, or all at once. Also prints the pairs that clean reports without the planted copies.
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageEnhance

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import encoded
from planted import all_at_once, cropped, recompressed, resized

from imgclf.clean import cleaning
from imgclf.core.config import SplitConfig
from imgclf.data import allocation, dataset
from imgclf.split import splitting


def brightened(image: Image.Image) -> bytes:
    return encoded(ImageEnhance.Brightness(image).enhance(1.3), quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        shutil.copytree(options.photos, root, ignore=shutil.ignore_patterns(".*"))
        alone = cleaning.clean(root, dry_run=True)
        for issue in alone.issues:
            if issue.other:
                print(f"without copies: {issue.check} {issue.path}, {issue.other}, {issue.score}")
        photos = [file.path for file in alone.files]
        original_of = {}
        for number, path in enumerate(random.Random(options.seed).sample(photos, options.copies)):
            change = (recompressed, resized, cropped, brightened, all_at_once)[number % 5]
            copy = str(Path(path).parent / f"planted {number:04d} {change.__name__}.jpg")
            (root / copy).write_bytes(change(Image.open(root / path).convert("RGB")))
            original_of[copy] = path
        manifest = splitting.split(root, SplitConfig(seed=options.seed)).manifest
        samples = [dataset.Sample(row.path, row.label) for row in manifest.rows]
        one_by_one = allocation.allocate(
            samples, {s.path: s.path for s in samples}, {"train": 0.7, "val": 0.15, "test": 0.15}, options.seed
        )
        for name, subsets in (("imgclf split", {row.path: row.split for row in manifest.rows}), ("a random split", one_by_one)):
            leaked = [copy for copy, original in original_of.items() if subsets[copy] != subsets[original]]
            print(f"{name}: {len(leaked)} of {len(original_of)} copies are in another subset than their original", *leaked[:5])
        groups = {row.path: row.group for row in manifest.rows}
        apart = [copy for copy, original in original_of.items() if groups[copy] != groups[original]]
        print(f"not recognised: {len(apart)} of {len(original_of)}", *apart)


if __name__ == "__main__":
    main()
