"""Compare the decoded with the written pixels for every TIFF layout, and read the files with other readers.

    python tests/benchmarks/tiff_layouts.py

Prints how many files decode to equal pixels, are refused as unsupported, and are wrong. Pillow and, if installed, tifffile
(with imagecodecs) read each file too. They must return the written pixels; otherwise the files would prove nothing.
"""

import collections
import io
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiffs

from imgclf.core.errors import ImageError
from imgclf.images import decode


def verdict(layout: tiffs.Layout, values: np.ndarray, data: bytes) -> str:
    """`equal`, `refused`, or a description of the difference."""
    try:
        decoded = decode.decode(data)
    except ImageError as error:
        if error.reason == "unsupported" and not tiffs.is_supported(layout):
            return "refused"
        return f"wrong: {error.reason}: {error}"
    if not tiffs.is_supported(layout):
        return "wrong: not refused"
    wanted = tiffs.expected(layout, values)
    if decoded.shape != wanted.shape:
        return f"wrong: {decoded.shape} instead of {wanted.shape}"
    far = int(np.abs(decoded.astype(int) - wanted).max())
    return "equal" if far <= (1 if layout.photometric == tiffs.YCBCR else 0) else f"wrong by {far}"


def by_pillow(layout: tiffs.Layout, values: np.ndarray, data: bytes) -> str:
    """The result of Pillow's own reader: `agrees`, `differs` or `cannot`."""
    same = {tiffs.BLACK_0: "L", tiffs.RGB: "RGB", tiffs.PALETTE: "RGB", tiffs.YCBCR: "YCbCr", tiffs.CMYK: "CMYK"}
    if layout.depth != "u8" or layout.extra or layout.photometric not in same or layout.fill_order == 2:
        return "cannot"
    if layout.planar and layout.compression == 1:
        return "cannot"  # it misreads the size of uncompressed planes
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        read = np.asarray(image.convert("RGB") if layout.photometric == tiffs.PALETTE else image)
    except Exception:
        return "cannot"
    if image.mode not in ("L", "P", "RGB", "YCbCr", "CMYK"):
        return "cannot"
    if layout.photometric == tiffs.PALETTE:
        wanted = tiffs.oriented((tiffs.palette(layout) // 256)[values[..., 0]], layout.orientation)
    elif image.mode == same[layout.photometric]:
        wanted = tiffs.oriented(values.squeeze(), layout.orientation)
    else:  # libtiff has converted it to RGB
        wanted = tiffs.expected(layout, values)
    far = np.abs(read.astype(int) - wanted).max() if read.shape == wanted.shape else 999
    return "agrees" if far <= (1 if image.mode != same[layout.photometric] else 0) else "differs"


def by_tifffile(layout: tiffs.Layout, values: np.ndarray, data: bytes) -> str:
    """Compare the samples read by tifffile, another reader, with those that were written."""
    try:
        import tifffile
    except ImportError:
        return "cannot"
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            read = file.pages[0].asarray()
    except Exception:
        return "cannot"
    if layout.planar:
        read = np.moveaxis(read, 0, -1)
    return "agrees" if np.array_equal(read.reshape(values.shape), values) else "differs"


def main() -> int:
    warnings.simplefilter("ignore")
    began = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    others = {"Pillow": collections.Counter[str](), "tifffile": collections.Counter[str]()}
    for number, layout in enumerate(tiffs.layouts()):
        values = tiffs.samples(layout, number)
        data = tiffs.written(layout, values)
        result = verdict(layout, values, data)
        counts[result.split(":")[0].split(" by")[0]] += 1
        for name, read in (("Pillow", by_pillow), ("tifffile", by_tifffile)):
            other = read(layout, values, data)
            others[name][other] += 1
            if other == "differs":
                print(f"{name} differs: {layout}", file=sys.stderr)
        if result.startswith("wrong"):
            print(result, layout, file=sys.stderr)
    print(f"{counts.total()} layouts: {counts['equal']} equal, {counts['refused']} refused, {counts['wrong']} wrong")
    for name, results in others.items():
        print(f"{name}: {', '.join(f'{what} {count}' for what, count in sorted(results.items()))}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
