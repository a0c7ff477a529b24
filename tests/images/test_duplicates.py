"""Test duplicates: hash and similarity separate copies from other images, and the search finds nearly all similar pairs."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from planted import COPIES, all_at_once, brightened, mirrored, scene

from imgclf.images import decode, preprocess, similarity

Features = tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def features(images: Sequence[bytes | Image.Image]) -> Features:
    """Return (hashes, ranks, grey thumbnails, colour thumbnails) of images."""
    made, colours = [], []
    for image in images:
        pixels = decode.decode(image) if isinstance(image, bytes) else np.asarray(image)
        made.append(similarity.perceptual(preprocess.thumbnail(pixels, 128)))
        colours.append(similarity.colours(preprocess.grid(pixels, 64)))
    thumbnails, hashes, ranks = zip(*made, strict=True)
    grey, weak = np.array(thumbnails), np.array([np.frombuffer(r, np.uint8) for r in ranks])
    return np.array(hashes, np.uint64), weak, grey, np.array(colours)


def search(features: Features, at_least: float = 0.0) -> NDArray[np.void]:
    hashes, ranks, grey, colours = features
    return similarity.pairs(hashes, ranks, similarity.coarse(grey), lambda some: (grey[some], colours[some]), at_least=at_least)


@pytest.mark.parametrize("change", COPIES, ids=lambda change: change.__name__)
def test_changed_copies_are_similar_and_other_images_are_not(change: object) -> None:
    originals = [scene(seed) for seed in range(30)]
    hashes, _ranks, thumbnails, colours = features([*originals, *(change(image) for image in originals)])  # type: ignore[operator]
    own, bits = similarity.similarity(thumbnails[:30], thumbnails[30:]), similarity.distance(hashes[:30], hashes[30:])
    assert bits.max() <= similarity.MAX_DISTANCE
    assert (own >= similarity.min_similarity(bits)).all()
    assert similarity.colour_similarity(colours[:30], colours[30:]).min() > 0.95
    others = similarity.similarity(np.roll(thumbnails[:30], 1, axis=0), thumbnails[30:])
    assert others.max() < 0.8


def test_mirroring_flips_known_bits() -> None:
    """The bits of the odd horizontal frequencies flip. A coefficient near zero can differ."""
    hashes, *_others = features([*(scene(seed) for seed in range(20)), *(scene(seed).transpose(0) for seed in range(20))])
    flipped = similarity.distance(hashes[:20], hashes[20:] ^ similarity.MIRROR)
    assert flipped.max() <= 1
    assert bin(int(similarity.MIRROR)).count("1") in range(26, 38)


def test_pairs_connect_each_group_once() -> None:
    originals = [scene(seed) for seed in range(40)]
    copies = [change(image) for image, change in zip(originals, itertools.cycle(COPIES), strict=False)]
    more = [mirrored(image) for image in originals[:10]]
    pairs = search(features([*originals, *copies, *more]))
    assert len(pairs) == 50  # 40 copies and 10 mirror images, each linked to its group once
    groups = {frozenset((int(pair["first"]) % 40, int(pair["second"]) % 40)) for pair in pairs}
    assert groups == {frozenset((number,)) for number in range(40)}
    mirror_pairs = pairs[pairs["mirrored"]]
    assert len(mirror_pairs) == 10
    assert all((pair["second"] >= 80) != (pair["first"] >= 80) for pair in mirror_pairs)
    assert (pairs["similarity"] >= similarity.min_similarity(pairs["distance"])).all()


def test_the_search_finds_nearly_all_close_hashes() -> None:
    """Hashes have all distances from random ones. As with images, the weakest bits are the most likely to differ."""
    random = np.random.default_rng(0)
    waves = random.normal(size=(3000, 64))
    near = waves[:1500] + random.normal(size=(1500, 64)) * random.uniform(0, 0.45, (1500, 1))
    both = np.concatenate([waves, near])
    hashes = np.packbits(both > 0, axis=1, bitorder="little").view(np.uint64).ravel()
    ranks = np.abs(both).argsort(axis=1).astype(np.uint8)
    found = set()
    for first, second, is_mirrored in similarity._candidates(hashes, ranks):
        if not is_mirrored:
            found |= {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    distances = similarity.distance(hashes[:1500], hashes[3000:])
    expected = {frozenset((int(index), int(index) + 3000)) for index in np.flatnonzero(distances <= similarity.MAX_DISTANCE)}
    assert len(expected) > 1000
    assert len(expected - found) <= 0.001 * len(expected)
    one, other = np.array([tuple(pair) for pair in found]).T
    assert similarity.distance(hashes[one], hashes[other]).max() <= similarity.MAX_DISTANCE


def test_many_identical_images_need_few_comparisons() -> None:
    """Images that are already connected are not compared again."""
    hashes, ranks, grey, colours = features([scene(1)])
    compared = 0

    def count(some: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        nonlocal compared
        compared += len(some)
        return np.repeat(grey, len(some), axis=0), np.repeat(colours, len(some), axis=0)

    pairs = similarity.pairs(
        np.repeat(hashes, 2000), np.repeat(ranks, 2000, axis=0), similarity.coarse(np.repeat(grey, 2000, axis=0)), count
    )
    assert len(pairs) == 1999
    assert compared < 2000 * 64


def test_many_different_images_with_one_hash_need_few_comparisons() -> None:
    """A fixed camera can give such images, with a new object in each."""
    hashes, ranks, grey, _colours = features([scene(1)])
    random = np.random.default_rng(0)
    compared = 0

    def unrelated(some: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        nonlocal compared
        compared += len(some)
        return random.integers(0, 256, (len(some), 32, 32), np.uint8), np.zeros((len(some), 8, 8, 3), np.uint8)

    pairs = similarity.pairs(
        np.repeat(hashes, 1500), np.repeat(ranks, 1500, axis=0), similarity.coarse(np.repeat(grey, 1500, axis=0)), unrelated
    )
    assert len(pairs) == 0
    assert compared <= 2 * 2 * 32 * 1500  # at most 32 pairs for each piece of the hash, two thumbnails each


def test_two_sets_of_copies_are_connected() -> None:
    """The nearest images of each copy are in its own set. The brighter set must still be connected."""
    image = scene(1)
    found = [np.repeat(column, 100, axis=0) for column in features([image, brightened(image)])]
    pairs = search((found[0], found[1], found[2], found[3]))
    assert len(pairs) == 199


def test_equal_shapes_of_different_colours_are_no_duplicates() -> None:
    """The grey thumbnails are similar enough, but one shape is red and the other blue."""
    random = np.random.default_rng(0)
    grey = np.asarray(scene(3).convert("L").resize((32, 32)), np.uint8)
    noisy = np.clip(grey + random.normal(0, 32, grey.shape), 0, 255).astype(np.uint8)
    alike = similarity.similarity(grey[None], noisy[None])[0]
    assert similarity.min_similarity(np.array([2], np.uint8))[0] < alike < similarity.CERTAIN
    hashes, ranks = np.array([5, 5], np.uint64), np.tile(np.arange(64, dtype=np.uint8), (2, 1))
    red, blue = np.zeros((2, 8, 8, 3), np.uint8)
    red[2:5, 2:5, 0] = blue[2:5, 2:5, 2] = 200
    both = np.array([grey, noisy])
    assert len(search((hashes, ranks, both, np.array([red, blue])))) == 0
    assert len(search((hashes, ranks, both, np.array([red, red])))) == 1
    assert len(search((hashes, ranks, both, np.array([red, red])), at_least=0.99)) == 0


def test_a_grey_copy_is_a_duplicate() -> None:
    image = scene(5)
    assert len(search(features([image, image.convert("L").convert("RGB")]))) == 1


def test_one_image_and_no_images_give_no_pairs() -> None:
    one = features([scene(1)])
    assert len(search(one)) == 0
    assert len(search((one[0][:0], one[1][:0], one[2][:0], one[3][:0]))) == 0


def test_flat_images_are_recognised() -> None:
    assert similarity.is_flat(np.full((32, 32), 200, np.uint8))
    assert not similarity.is_flat(similarity.perceptual(preprocess.thumbnail(np.asarray(scene(1)), 128))[0])


# -- exact values -------------------------------------------------------------------------------------------------------------


def test_the_hash_is_the_sign_of_the_lowest_cosine_waves() -> None:
    """Indexes on disk store it: bit k is the k-th lowest frequency, its rank is the size of its wave."""
    waves = [(y, x) for y in range(32) for x in range(32) if (y, x) != (0, 0)]
    waves.sort(key=lambda wave: (wave[0] ** 2 + wave[1] ** 2, wave))
    assert waves[:4] == [(0, 1), (1, 0), (1, 1), (0, 2)]
    place = np.arange(32) + 0.5
    cosines = np.cos(np.pi / 32 * np.arange(32)[:, None] * place) * np.where(np.arange(32) == 0, 0.5**0.5, 1)[:, None]
    for seed in range(5):
        thumbnail, found, ranks = similarity.perceptual(preprocess.thumbnail(np.asarray(scene(seed)), 128))
        sizes = np.array([cosines[y] @ thumbnail.astype(float) @ cosines[x] for y, x in waves[:64]])
        assert found == sum(1 << bit for bit, size in enumerate(sizes.tolist()) if size > 0)
        assert list(ranks) == np.abs(sizes).argsort().tolist()
    assert int(similarity.MIRROR) == sum(1 << bit for bit, (_y, x) in enumerate(waves[:64]) if x % 2)
    flat = similarity.perceptual(np.full((40, 40), 9, np.uint8))
    assert (flat[1], list(flat[2])) == (0, list(range(64)))


def a_pair(noise: float, *, turned: bool = False) -> tuple[float, Features]:
    """(similarity, features) of a thumbnail and a noisy copy of it, with one hash and no colours."""
    grey = np.asarray(scene(3).convert("L").resize((32, 32)), np.uint8)
    random = np.random.default_rng(0)
    noisy = np.clip(grey + random.normal(0, noise, grey.shape), 0, 255).astype(np.uint8)
    alike = float(similarity.similarity(grey[None], noisy[None])[0])
    hashes = np.array([5, 5], np.uint64)
    if turned:
        hashes[1] ^= similarity.MIRROR
        noisy = np.ascontiguousarray(noisy[:, ::-1])
    ranks = np.tile(np.arange(64, dtype=np.uint8), (2, 1))
    return alike, (hashes, ranks, np.array([grey, noisy]), np.zeros((2, 8, 8, 3), np.uint8))


def test_a_mirror_image_must_be_nearly_the_same_whatever_its_colours() -> None:
    """Two things of one shape are often each other's mirror image."""
    red = np.zeros((2, 8, 8, 3), np.uint8)
    red[:, 2:5, 2:5, 0] = 200
    for noise, fair in ((32, True), (4, False)):
        alike, plain = a_pair(noise)
        assert (0.93 < alike < similarity.CERTAIN) == fair
        assert len(search((*plain[:3], red))) == 1
        _alike, turned = a_pair(noise, turned=True)
        pairs = search((*turned[:3], red))
        assert pairs["mirrored"].tolist() == ([] if fair else [True])
    assert pairs[["first", "second", "distance"]].tolist() == [(0, 1, 0)]
    assert pairs["similarity"][0] == pytest.approx(alike)


@pytest.mark.parametrize(("likeness", "count"), [(0.83, 0), (0.87, 1), (1.0, 1), (-1.0, 0)])
def test_colours_that_agree_by_85_of_100(likeness: float, count: int) -> None:
    """In the left half of both images the first colour, in the right half a second one of another strength."""
    alike, (hashes, ranks, grey, colours) = a_pair(32)
    assert alike < similarity.CERTAIN
    colours = np.full((2, 8, 8, 3), 100, np.uint8)
    colours[0, :, :4] += np.array([100, 0, 0], np.uint8)
    other = np.zeros((8, 8, 3))
    other[:, :4, 0], other[:, 4:, 0] = 100 * likeness, 100 * np.sqrt(1 - likeness**2)
    colours[1] = np.clip(100 + other, 0, 255).round()
    assert similarity.colour_similarity(colours[:1], colours[1:])[0] == pytest.approx(likeness, abs=0.01)
    assert len(search((hashes, ranks, grey, colours))) == count


def test_a_threshold_that_is_reached_is_enough() -> None:
    alike, features = a_pair(4)
    assert alike > similarity.CERTAIN
    for at_least, count in ((alike, 1), (np.nextafter(alike, 2), 0), (0.0, 1)):
        assert len(search(features, at_least)) == count


def test_hashes_may_differ_in_16_bits() -> None:
    """They are none of the bits by which the search finds a pair."""
    grey, colours = np.repeat(features([scene(3)])[2], 2, axis=0), np.zeros((2, 8, 8, 3), np.uint8)
    ranks = np.tile(np.arange(64, dtype=np.uint8), (2, 1))
    for count, found in ((8, 1), (16, 1), (17, 0)):
        hashes = np.array([0, sum(1 << bit for bit in range(40, 40 + count))], np.uint64)
        pairs = similarity.pairs(hashes, ranks, similarity.coarse(grey), lambda some: (grey[some], colours[some]))
        assert (len(pairs), pairs["distance"].tolist()) == (found, [count] * found)


def test_pairs_are_sorted_and_progress_ends_at_its_total() -> None:
    images = [scene(1), scene(2), scene(3)]
    hashes, ranks, grey, colours = features([*images, images[2], all_at_once(images[1]), all_at_once(images[0])])
    assert similarity.distance(hashes[:3], hashes[:2:-1]).tolist()[2] == 0, "the last pair is found first"
    told: list[tuple[int, int]] = []
    pairs = similarity.pairs(
        hashes,
        ranks,
        similarity.coarse(grey),
        lambda some: (grey[some], colours[some]),
        progress=lambda *step: told.append(step),
    )
    assert pairs[["first", "second"]].tolist() == [(0, 5), (1, 4), (2, 3)]
    assert told == [(number, 4) for number in range(1, 5)]
    many = np.zeros(129, np.uint64) + np.arange(129, dtype=np.uint64) * np.uint64(0x123456789ABCDEF)
    told.clear()
    similarity.pairs(
        many, np.repeat(ranks[:1], 129, axis=0), np.zeros((129, 64), np.float16), lambda _some: (grey, colours),
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert told == [(number, 8) for number in range(1, 9)]
