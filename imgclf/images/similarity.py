"""Which images show the same: a perceptual hash to find pairs that may, and a comparison of thumbnails to make sure.

The hash is the sign of the 64 lowest cosine waves in a 32 x 32 grey thumbnail. Copies that were resized, recompressed,
brightened, darkened or cropped by 3% a side differ in at most MAX_DISTANCE of its bits, and so do one or two in ten thousand
pairs of unrelated photographs. Those are told apart by `similarity`, which must be the higher the more bits differ
(`least_similarity`), and unless it is nearly 1 by `colour_likeness`.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.progress import Progress
from imgclf.images import preprocess

SIDE = 32  # pixels a side of the grey thumbnail
COLOURS = 8  # pixels a side of the colour thumbnail
MAX_DISTANCE = 16  # bits of 64
SMALLEST = 40  # pixels on the shorter side; in fewer, different things of one kind look as alike as copies do
FLATTEST = 4.0  # grey levels of standard deviation below which a thumbnail shows too little to be compared
LEAST_SIMILARITY = 0.93
CERTAIN = 0.975  # the similarity from which colours need not agree: a grey copy of a colour image is a copy
_COLOUR = 0.85  # the least colour likeness below that
_LIKELY = 0.55  # the least correlation at 8 x 8; cropped copies of flowers go down to 0.7
_BLOCK = 128  # images looked up at once
_FULL = 64  # images of one place in the index that are compared, where more share it

# (vertical, horizontal) frequency of each bit, the lowest first; frequency 0, 0 is only the brightness.
_FREQUENCIES = sorted(
    ((y, x) for y, x in itertools.product(range(SIDE), repeat=2) if y + x > 0), key=lambda f: (f[0] ** 2 + f[1] ** 2, f)
)[:64]
_ROWS, _COLUMNS = np.array(_FREQUENCIES).T
# Mirroring left to right turns the sign of the waves with an odd horizontal frequency, and nothing else.
MIRROR = np.uint64(sum(1 << bit for bit, (_y, x) in enumerate(_FREQUENCIES) if x % 2))

Hashes = NDArray[np.uint64]  # (n,)
Thumbnails = NDArray[np.uint8]  # (n, SIDE, SIDE)
Colours = NDArray[np.uint8]  # (n, COLOURS, COLOURS, 3)


def perceptual(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, bytes]:
    """(grey thumbnail (SIDE, SIDE), hash of 64 bits, the numbers of its bits from the least to the most certain)."""
    thumbnail = preprocess.resize(grey, SIDE, SIDE)
    waves = cv2.dct(thumbnail.astype(np.float32))[_ROWS, _COLUMNS]
    bits = np.packbits(waves > 0, bitorder="little")
    ranks = np.abs(waves).argsort(kind="stable").astype(np.uint8)
    return thumbnail, int(bits.view(np.uint64)[0]), ranks.tobytes()


def colours(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour thumbnail (COLOURS, COLOURS, 3) of an image or of some of its pixels, (h, w, 3)."""
    return np.asarray(cv2.resize(grid, (COLOURS, COLOURS), interpolation=cv2.INTER_AREA), np.uint8)


def is_flat(thumbnail: NDArray[np.uint8]) -> bool:
    """Whether a thumbnail shows too little (a blank page, a clear sky) to be compared with others."""
    return bool(cv2.meanStdDev(thumbnail)[1][0, 0] < FLATTEST)


def distance(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """Bits that differ."""
    return np.asarray(np.bitwise_count(first ^ second), np.uint8)


def least_similarity(distance: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The similarity from which two images show the same: LEAST_SIMILARITY, and 0.96 when MAX_DISTANCE bits differ.

    Tuned on 2,000 photographs of cats and dogs, 4,317 of flowers, 310 of clothes, and changed copies of them.
    """
    return np.maximum(LEAST_SIMILARITY, 0.85 + 0.007 * np.asarray(distance, np.float64))


def similarity(first: Thumbnails, second: Thumbnails) -> NDArray[np.float64]:
    """How much of each second thumbnail is explained by the first beside it (or the other way round): (n,), 0 to 1.

    The share of the variance that a linear fit of seven terms explains: the first image, its square (brightness, contrast
    and clipping), and, to first order, shifts and stretches of it (crops); both smoothed, so that a shift of two pixels of 32
    is still of first order.
    """
    one, other = _smooth(first), _smooth(second)
    return np.maximum(_explained(one, other), _explained(other, one))


def colour_likeness(first: Colours, second: Colours) -> NDArray[np.float64]:
    """(n,) the correlation of how the two images' colours differ from grey, -1 to 1; 0 when one of them has no colour."""
    one, other = (pixels.astype(np.float64) for pixels in (first, second))
    one, other = ((pixels - pixels.mean(axis=-1, keepdims=True)).reshape(len(pixels), -1) for pixels in (one, other))
    scale = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    return np.asarray((one * other).sum(axis=1) / np.maximum(scale, 1.0), np.float64)


def _smooth(thumbnails: Thumbnails) -> NDArray[np.float32]:
    weights = cv2.getGaussianKernel(5, 1.0).astype(np.float32).ravel()
    padded = np.pad(thumbnails.astype(np.float32), ((0, 0), (2, 2), (2, 2)), mode="edge")
    rows = np.zeros((len(thumbnails), SIDE, SIDE + 4), np.float32)
    result = np.zeros((len(thumbnails), SIDE, SIDE), np.float32)
    for k, weight in enumerate(weights):
        rows += weight * padded[:, k : k + SIDE]
    for k, weight in enumerate(weights):
        result += weight * rows[:, :, k : k + SIDE]
    return result


def _explained(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    down, across = np.gradient(source, axis=(1, 2))
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    centred = source - source.mean(axis=(1, 2), keepdims=True)
    terms = [np.ones_like(source), centred, centred * centred / 64, across, down, across * x, down * y]
    some = (slice(None), slice(1, -1, 2), slice(1, -1, 2))  # after smoothing, every second pixel says as much
    count = len(source)
    design = np.stack([term[some].reshape(count, -1) for term in terms], axis=-1)  # (n, pixels, 7)
    wanted = target[some].reshape(count, -1)
    turned = design.transpose(0, 2, 1)
    normal = (turned @ design).astype(np.float64) + 1e-2 * np.eye(len(terms))
    weights = np.linalg.solve(normal, (turned @ wanted[..., None]).astype(np.float64)).astype(np.float32)
    left = wanted - (design @ weights)[..., 0]
    spread = wanted - wanted.mean(axis=1, keepdims=True)
    return np.asarray(1 - (left**2).sum(axis=1) / ((spread**2).sum(axis=1) + 1), np.float64).clip(0, 1)


def coarse(thumbnails: Thumbnails) -> NDArray[np.float16]:
    """(n, 64): thumbnails at 8 x 8, with mean 0 and length 1, so that their product is a correlation."""
    blocks = thumbnails.reshape(-1, 8, SIDE // 8, 8, SIDE // 8).mean(axis=(2, 4), dtype=np.float32).reshape(-1, 64)
    blocks -= blocks.mean(axis=1, keepdims=True)
    return np.asarray(blocks / np.sqrt((blocks**2).sum(axis=1, keepdims=True) + 1), np.float16)


PAIRS = np.dtype([("first", "i8"), ("second", "i8"), ("distance", "u1"), ("similarity", "f4"), ("mirrored", "?")])
Looks = Callable[[NDArray[np.int64]], tuple[Thumbnails, Colours]]


def pairs(
    hashes: Hashes,
    ranks: NDArray[np.uint8],
    small: NDArray[np.float16],
    looks: Looks,
    *,
    at_least: float = 0.0,
    progress: Progress | None = None,
) -> NDArray[np.void]:
    """Pairs (dtype PAIRS) by which every group of images that show the same hangs together, sorted.

    ranks: (n, 64) from `perceptual`. small: (n, 64) from `coarse`, which rules most strangers out. looks: called with indices,
    so that thumbnails need not all be in memory. at_least: a similarity that every pair must have besides. Images
    that are linked already, through others, are not compared again: there are fewer pairs than images. Each image is
    compared with the 32 that differ least, for each of the two pieces of the hash: where thousands are much alike but not the
    same, as from a camera that never moves, a copy may be missed.
    """
    group = np.arange(len(hashes))  # the smallest index of each image's group
    found: list[tuple[int, int, int, float, bool]] = []
    blocks = 4 * -(-len(hashes) // _BLOCK)
    for done, (first, second, mirrored) in enumerate(_candidates(hashes, ranks), 1):
        turn = MIRROR if mirrored else np.uint64(0)
        likely = _correlation(small, first, second, mirrored) >= _LIKELY
        first, second = first[likely], second[likely]
        bits = distance(hashes[first], hashes[second] ^ turn)
        for _round in range(4):
            apart = group[first] != group[second]
            first, second, bits = first[apart], second[apart], bits[apart]
            if not len(first):
                break
            # The eight nearest between each two groups, and of each image: of images that are all alike, most are linked
            # after the first round and need no look.
            chosen = _nearest(bits, *np.sort([group[first], group[second]], axis=0))
            chosen = chosen[_nearest(bits[chosen], first[chosen])]
            for one, other, bit, alike in _alike(first[chosen], second[chosen], bits[chosen], looks, mirrored, at_least):
                if group[one] != group[other]:
                    low, high = sorted((group[one], group[other]))
                    group[group == high] = low
                    found.append((min(one, other), max(one, other), bit, alike, mirrored))
            first, second, bits = (np.delete(column, chosen) for column in (first, second, bits))
        if progress:
            progress(done, blocks)
    return np.array(sorted(found), PAIRS)


def _correlation(
    small: NDArray[np.float16], first: NDArray[np.int64], second: NDArray[np.int64], mirrored: bool
) -> NDArray[np.float32]:
    result = np.empty(len(first), np.float32)
    for top in range(0, len(first), 65536):
        part = slice(top, top + 65536)
        other = small[second[part]].astype(np.float32)
        if mirrored:
            other = other.reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
        result[part] = (small[first[part]].astype(np.float32) * other).sum(axis=1)
    return result


def _nearest(bits: NDArray[np.uint8], *keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the eight pairs with the fewest different bits among those that agree in all keys, each (n,)."""
    columns: list[NDArray[np.generic]] = [bits, *keys]
    order = np.lexsort(columns)
    new = np.zeros(len(order), bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    place = np.arange(len(order))
    return order[place - np.maximum.accumulate(np.where(new, place, 0)) < 8]


def _alike(
    first: NDArray[np.int64], second: NDArray[np.int64], bits: NDArray[np.uint8], looks: Looks, mirrored: bool, at_least: float
) -> Iterator[tuple[int, int, int, float]]:
    """(first, second, distance, similarity) of the pairs that look the same, the closest first."""
    for top in range(0, len(first), 2048):  # 2,048 comparisons take 60 MB
        part = slice(top, top + 2048)
        grey, colour = looks(first[part])
        other_grey, other_colour = looks(second[part])
        alike = similarity(grey, other_grey[:, :, ::-1] if mirrored else other_grey)
        same = alike >= np.maximum(least_similarity(bits[part]), at_least)
        # The same place in another colour is no copy, and two things of one shape are often each other's mirror image.
        same &= (alike >= CERTAIN) | ((colour_likeness(colour, other_colour) >= _COLOUR) & (not mirrored))
        where = np.flatnonzero(same)
        for index in where[np.lexsort((-alike[where], bits[part][where]))]:
            yield int(first[part][index]), int(second[part][index]), int(bits[part][index]), float(alike[index])


def _candidates(hashes: Hashes, ranks: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    """(first, second, mirrored): pairs within MAX_DISTANCE, a block of images at a time.

    Images are sorted by two pieces of their hash, each about long enough to tell them apart. Each image looks where its
    own piece leads, and where it would lead if any of its nine least certain bits were wrong (ten where the pieces are
    longer): some thousand look-ups an image, however many there are. Of 6,000 copies that were cropped, brightened, or
    that and made smaller and recompressed, the first piece alone missed 9 and both together none.
    """
    count = len(hashes)
    if count < 2:
        return
    width = min(24, max(16, math.ceil(math.log2(count))))
    weak = 9 if width == 16 else 10
    rest = np.uint64(64 - width)
    choices = (np.arange(1 << weak)[:, None] >> np.arange(weak)) & 1  # (512 or 1024, weak)
    for start, mirrored in itertools.product((0, width), (False, True)):
        turn = MIRROR if mirrored else np.uint64(0)
        first_bit = np.uint64(start + width)
        turned = (hashes >> first_bit) | (hashes << (np.uint64(64) - first_bit))  # the piece in front, the rest behind it
        order = turned.argsort(kind="stable")
        turned = turned[order]
        starts = np.zeros((1 << width) + 1, np.int32)
        np.cumsum(np.bincount((turned >> rest).astype(np.int64), minlength=1 << width), out=starts[1:])
        for top in range(0, count, _BLOCK):
            own = np.arange(top, min(count, top + _BLOCK))
            wanted = hashes[own] ^ turn
            keys = (wanted >> np.uint64(start)).astype(np.int64) & ((1 << width) - 1)
            ranked = ranks[own].astype(np.int64) - start
            doubtful = ranked[(ranked >= 0) & (ranked < width)].reshape(len(own), width)[:, :weak]
            probes = keys[:, None] ^ ((1 << doubtful) @ choices.T)  # (block, look-ups), each key once
            begin, end = starts[probes], starts[probes + 1]
            hit = np.nonzero(end > begin)
            begin, end = begin[hit].astype(np.int64), end[hit].astype(np.int64)
            full = np.flatnonzero(end - begin > _FULL)
            if len(full):  # there, only those whose other bits come next to this image's in order
                behind = (wanted >> first_bit) | (wanted << (np.uint64(64) - first_bit))
                behind = (behind << np.uint64(width) >> np.uint64(width))[hit[0][full]]
                place = turned.searchsorted((probes[hit][full].astype(np.uint64) << rest) | behind)
                begin[full] = np.clip(place - _FULL // 2, begin[full], end[full] - _FULL)
                end[full] = begin[full] + _FULL
            lengths = end - begin
            first = np.repeat(own[hit[0]], lengths)
            within = np.arange(len(first)) - np.repeat(lengths.cumsum() - lengths, lengths)
            second = order[np.repeat(begin, lengths) + within]
            near = (distance(hashes[first], hashes[second] ^ turn) <= MAX_DISTANCE) & (first != second)
            yield first[near], second[near], mirrored
