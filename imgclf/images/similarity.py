"""Find images that show the same: perceptual hashes give candidate pairs, and a comparison of thumbnails confirms them.

The hash contains the signs of the 64 lowest frequencies of the cosine transform of a 32 x 32 grey thumbnail. Copies that were
resized, recompressed, brightened, darkened or cropped by 3% per side differ in at most MAX_DISTANCE bits. So do one or two of
10,000 pairs of unrelated photographs. `similarity` rejects these: the more bits differ, the higher it must be
(`min_similarity`). Unless it is nearly 1, `colour_similarity` must be high too.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.progress import Progress
from imgclf.images import preprocess

SIDE = 32  # pixels per side of the grey thumbnail
COLOURS = 8  # pixels per side of the colour thumbnail
MAX_DISTANCE = 16  # bits of 64
MIN_SIDE = 40  # pixels on the shorter side; in smaller images, different objects of one kind are as similar as copies
MIN_CONTRAST = 4.0  # standard deviation in grey levels; thumbnails below it contain too little to be compared
MIN_SIMILARITY = 0.93
CERTAIN = 0.975  # from this similarity on, colours may differ: a grey copy of a colour image is a copy
_MIN_COLOUR_SIMILARITY = 0.85  # minimum colour similarity below CERTAIN
_MIN_CORRELATION = 0.55  # minimum correlation at 8 x 8; cropped copies of flowers have at least 0.7
_BLOCK = 128  # images to look up at once
_MAX_PER_KEY = 64  # maximum number of images with one hash key to compare with

# (vertical, horizontal) frequency of each bit, the lowest first. Frequency (0, 0) is skipped: it is only the brightness.
_FREQUENCIES = sorted(
    ((y, x) for y, x in itertools.product(range(SIDE), repeat=2) if y + x > 0), key=lambda f: (f[0] ** 2 + f[1] ** 2, f)
)[:64]
_ROWS, _COLUMNS = np.array(_FREQUENCIES).T
# A horizontal flip changes only the signs of the odd horizontal frequencies.
MIRROR = np.uint64(sum(1 << bit for bit, (_y, x) in enumerate(_FREQUENCIES) if x % 2))

Hashes = NDArray[np.uint64]  # (n,)
Thumbnails = NDArray[np.uint8]  # (n, SIDE, SIDE)
Colours = NDArray[np.uint8]  # (n, COLOURS, COLOURS, 3)


def perceptual(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, bytes]:
    """Return (grey thumbnail (SIDE, SIDE), hash of 64 bits, the indices of its bits from the least to the most certain)."""
    thumbnail = preprocess.resize(grey, SIDE, SIDE)
    waves = cv2.dct(thumbnail.astype(np.float32))[_ROWS, _COLUMNS]
    bits = np.packbits(waves > 0, bitorder="little")
    ranks = np.abs(waves).argsort(kind="stable").astype(np.uint8)
    return thumbnail, int(bits.view(np.uint64)[0]), ranks.tobytes()


def colours(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colour thumbnail, (COLOURS, COLOURS, 3), of an image or of evenly spaced pixels of it, (h, w, 3)."""
    return np.asarray(cv2.resize(grid, (COLOURS, COLOURS), interpolation=cv2.INTER_AREA), np.uint8)


def is_flat(thumbnail: NDArray[np.uint8]) -> bool:
    """Return whether a thumbnail contains too little to be compared with others, such as a blank page or a clear sky."""
    return bool(cv2.meanStdDev(thumbnail)[1][0, 0] < MIN_CONTRAST)


def distance(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """Return the number of bits that differ, element by element."""
    return np.asarray(np.bitwise_count(first ^ second), np.uint8)


def min_similarity(distance: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the similarity that copies must reach: MIN_SIMILARITY for small distances, rising to 0.96 at MAX_DISTANCE.

    Tuned on 2,000 photographs of cats and dogs, 4,317 of flowers, 310 of clothes, and edited copies of them.
    """
    return np.maximum(MIN_SIMILARITY, 0.85 + 0.007 * np.asarray(distance, np.float64))


def similarity(first: Thumbnails, second: Thumbnails) -> NDArray[np.float64]:
    """Return how well each first thumbnail explains the second one, or the second the first, whichever is better.

    The linear fit has seven terms: a constant, the first image and its square (brightness, contrast and clipping), and
    first-order shifts and stretches of it (crops). Both images are smoothed: a shift by two of 32 pixels is then nearly linear.

    Returns:
        (n,) fraction of the variance that the fit explains, 0 to 1.
    """
    one, other = _smooth(first), _smooth(second)
    return np.maximum(_explained(one, other), _explained(other, one))


def colour_similarity(first: Colours, second: Colours) -> NDArray[np.float64]:
    """Return the correlation of the colour differences from grey of each two images: (n,), -1 to 1; 0 if one has no colour."""
    one, other = (pixels.astype(np.float64) for pixels in (first, second))
    one, other = ((pixels - pixels.mean(axis=-1, keepdims=True)).reshape(len(pixels), -1) for pixels in (one, other))
    scale = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    return np.asarray((one * other).sum(axis=1) / np.maximum(scale, 1.0), np.float64)


def _smooth(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Blur thumbnails with a 5 x 5 Gaussian kernel."""
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
    """Return the fraction of each target's variance that the fit of `similarity` on the source explains: (n,)."""
    down, across = np.gradient(source, axis=(1, 2))
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    centred = source - source.mean(axis=(1, 2), keepdims=True)
    terms = [np.ones_like(source), centred, centred * centred / 64, across, down, across * x, down * y]
    sampled = (slice(None), slice(1, -1, 2), slice(1, -1, 2))  # after smoothing, every second pixel is enough
    count = len(source)
    design = np.stack([term[sampled].reshape(count, -1) for term in terms], axis=-1)  # (n, pixels, 7)
    sampled_target = target[sampled].reshape(count, -1)
    transposed = design.transpose(0, 2, 1)
    normal = (transposed @ design).astype(np.float64) + 1e-2 * np.eye(len(terms))
    weights = np.linalg.solve(normal, (transposed @ sampled_target[..., None]).astype(np.float64)).astype(np.float32)
    residual = sampled_target - (design @ weights)[..., 0]
    centred_target = sampled_target - sampled_target.mean(axis=1, keepdims=True)
    return np.asarray(1 - (residual**2).sum(axis=1) / ((centred_target**2).sum(axis=1) + 1), np.float64).clip(0, 1)


def coarse(thumbnails: Thumbnails) -> NDArray[np.float16]:
    """Return thumbnails at 8 x 8, (n, 64), with mean 0 and length 1: the dot product of two is their correlation."""
    blocks = thumbnails.reshape(-1, 8, SIDE // 8, 8, SIDE // 8).mean(axis=(2, 4), dtype=np.float32).reshape(-1, 64)
    blocks -= blocks.mean(axis=1, keepdims=True)
    return np.asarray(blocks / np.sqrt((blocks**2).sum(axis=1, keepdims=True) + 1), np.float16)


PAIRS = np.dtype([("first", "i8"), ("second", "i8"), ("distance", "u1"), ("similarity", "f4"), ("mirrored", "?")])
LoadThumbnails = Callable[[NDArray[np.int64]], tuple[Thumbnails, Colours]]


def pairs(
    hashes: Hashes,
    ranks: NDArray[np.uint8],
    small: NDArray[np.float16],
    load: LoadThumbnails,
    *,
    at_least: float = 0.0,
    progress: Progress | None = None,
) -> NDArray[np.void]:
    """Return pairs of images that show the same. Their connected components are the groups of copies.

    Images that are already connected through others are not compared again, so there are fewer pairs than images. `_candidates`
    searches two segments of the hash. For each, an image is compared with the 32 candidates at the smallest distance: among
    thousands of similar images, such as those of a fixed camera, a copy can be missed.

    Args:
        hashes: (n,) from `perceptual`.
        ranks: (n, 64) from `perceptual`.
        small: (n, 64) from `coarse`, to reject most unrelated pairs early.
        load: returns the grey and the colour thumbnails of these indices, so that not all need to be in memory.
        at_least: an additional minimum similarity.
        progress: called with the finished and the total number of blocks.

    Returns:
        Records of dtype PAIRS, sorted.
    """
    group = np.arange(len(hashes))  # the smallest index of each image's group
    found: list[tuple[int, int, int, float, bool]] = []
    blocks = 4 * -(-len(hashes) // _BLOCK)
    for done, (first, second, mirrored) in enumerate(_candidates(hashes, ranks), 1):
        flip = MIRROR if mirrored else np.uint64(0)
        likely = _correlation(small, first, second, mirrored) >= _MIN_CORRELATION
        first, second = first[likely], second[likely]
        bits = distance(hashes[first], hashes[second] ^ flip)
        for _round in range(4):
            apart = group[first] != group[second]
            first, second, bits = first[apart], second[apart], bits[apart]
            if not len(first):
                break
            # Compare only the eight nearest pairs of each two groups, and of each image. If many images are alike, the first
            # round connects most of them, and later rounds skip these.
            chosen = _nearest(bits, *np.sort([group[first], group[second]], axis=0))
            chosen = chosen[_nearest(bits[chosen], first[chosen])]
            for one, other, bits_apart, score in _copies(first[chosen], second[chosen], bits[chosen], load, mirrored, at_least):
                if group[one] != group[other]:
                    low, high = sorted((group[one], group[other]))
                    group[group == high] = low
                    found.append((min(one, other), max(one, other), bits_apart, score, mirrored))
            first, second, bits = (np.delete(column, chosen) for column in (first, second, bits))
        if progress:
            progress(done, blocks)
    return np.array(sorted(found), PAIRS)


def _correlation(
    small: NDArray[np.float16], first: NDArray[np.int64], second: NDArray[np.int64], mirrored: bool
) -> NDArray[np.float32]:
    """Return the correlation of each pair at 8 x 8: (n,). mirrored: flip the second image."""
    result = np.empty(len(first), np.float32)
    for top in range(0, len(first), 65536):
        block = slice(top, top + 65536)
        other = small[second[block]].astype(np.float32)
        if mirrored:
            other = other.reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
        result[block] = (small[first[block]].astype(np.float32) * other).sum(axis=1)
    return result


def _nearest(bits: NDArray[np.uint8], *keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of the eight pairs with the smallest distance for each combination of keys. All arrays are (n,)."""
    columns: list[NDArray[np.generic]] = [bits, *keys]
    order = np.lexsort(columns)
    new = np.zeros(len(order), bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    place = np.arange(len(order))
    return order[place - np.maximum.accumulate(np.where(new, place, 0)) < 8]


def _copies(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    bits: NDArray[np.uint8],
    load: LoadThumbnails,
    mirrored: bool,
    at_least: float,
) -> Iterator[tuple[int, int, int, float]]:
    """Yield (first, second, distance, similarity) of the pairs that show the same, in each block the nearest first."""
    for top in range(0, len(first), 2048):  # 2,048 comparisons take 60 MB
        block = slice(top, top + 2048)
        grey, colour = load(first[block])
        other_grey, other_colour = load(second[block])
        score = similarity(grey, other_grey[:, :, ::-1] if mirrored else other_grey)
        same = score >= np.maximum(min_similarity(bits[block]), at_least)
        # One scene in two colours is no copy. Different objects of one shape are often mirror images of each other.
        same &= (score >= CERTAIN) | ((colour_similarity(colour, other_colour) >= _MIN_COLOUR_SIMILARITY) & (not mirrored))
        where = np.flatnonzero(same)
        for index in where[np.lexsort((-score[where], bits[block][where]))]:
            yield int(first[block][index]), int(second[block][index]), int(bits[block][index]), float(score[index])


def _candidates(hashes: Hashes, ranks: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    """Yield (first, second, mirrored): pairs within MAX_DISTANCE, for one block of images at a time.

    Two segments of the hash serve as keys, one after the other. A key is long enough for about one image per value. Each image
    is looked up by its own key, and by every key that differs only in its nine least certain bits (ten for long keys): about
    1,000 look-ups per image, for any number of images. Among 6,000 copies that were cropped, brightened, or also resized and
    recompressed, the first segment alone missed 9, and both together missed none.
    """
    count = len(hashes)
    if count < 2:
        return
    width = min(24, max(16, math.ceil(math.log2(count))))
    uncertain_bits = 9 if width == 16 else 10
    rest = np.uint64(64 - width)
    choices = (np.arange(1 << uncertain_bits)[:, None] >> np.arange(uncertain_bits)) & 1  # (512 or 1024, uncertain_bits)
    for start, mirrored in itertools.product((0, width), (False, True)):
        flip = MIRROR if mirrored else np.uint64(0)
        first_bit = np.uint64(start + width)
        rotated = (hashes >> first_bit) | (hashes << (np.uint64(64) - first_bit))  # the key first, then the other bits
        order = rotated.argsort(kind="stable")
        rotated = rotated[order]
        starts = np.zeros((1 << width) + 1, np.int32)
        np.cumsum(np.bincount((rotated >> rest).astype(np.int64), minlength=1 << width), out=starts[1:])
        for top in range(0, count, _BLOCK):
            own = np.arange(top, min(count, top + _BLOCK))
            target_bits = hashes[own] ^ flip
            keys = (target_bits >> np.uint64(start)).astype(np.int64) & ((1 << width) - 1)
            ranked = ranks[own].astype(np.int64) - start
            uncertain = ranked[(ranked >= 0) & (ranked < width)].reshape(len(own), width)[:, :uncertain_bits]
            probes = keys[:, None] ^ ((1 << uncertain) @ choices.T)  # (block, look-ups): each key once
            begin, end = starts[probes], starts[probes + 1]
            hit = np.nonzero(end > begin)
            begin, end = begin[hit].astype(np.int64), end[hit].astype(np.int64)
            crowded = np.flatnonzero(end - begin > _MAX_PER_KEY)
            if len(crowded):  # compare only with those whose other bits are nearest in sort order
                other_bits = (target_bits >> first_bit) | (target_bits << (np.uint64(64) - first_bit))
                other_bits = (other_bits << np.uint64(width) >> np.uint64(width))[hit[0][crowded]]
                place = rotated.searchsorted((probes[hit][crowded].astype(np.uint64) << rest) | other_bits)
                begin[crowded] = np.clip(place - _MAX_PER_KEY // 2, begin[crowded], end[crowded] - _MAX_PER_KEY)
                end[crowded] = begin[crowded] + _MAX_PER_KEY
            lengths = end - begin
            first = np.repeat(own[hit[0]], lengths)
            within = np.arange(len(first)) - np.repeat(lengths.cumsum() - lengths, lengths)
            second = order[np.repeat(begin, lengths) + within]
            near = (distance(hashes[first], hashes[second] ^ flip) <= MAX_DISTANCE) & (first != second)
            yield first[near], second[near], mirrored
