"""Test measurements, comparisons of images, ends of files, and sources against their formulas."""

import hashlib
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import encoded, photo, write

from imgclf.images import augment, decode, header, measurements, quality, similarity, sources
from imgclf.images.formats import containers


def record(**changes: object) -> np.ndarray:
    """Return (1,) a sound record of measurements with these changes."""
    made = np.zeros(1, measurements.DTYPE)
    good = {"format": b"PNG", "bytes": 100, "width": 10, "height": 20, "trailing": 99}
    for name, value in {**good, **changes}.items():
        if name in ("endless", "animated", "flat"):
            made[name].view("u1")[:] = value
        else:
            made[name] = value
    return made


@pytest.mark.parametrize(
    ("changes", "sound"),
    [
        ({}, True), ({"format": b"HEIC"}, False), ({"format": b""}, False), ({"width": 0}, False), ({"height": 0}, False),
        ({"width": header.MAX_PIXELS, "height": 1}, True), ({"width": header.MAX_PIXELS, "height": 2}, False),
        ({"bytes": 1, "trailing": 0}, True), ({"bytes": 0, "trailing": 0}, False), ({"trailing": 100}, False),
        ({"bytes": decode.MAX_BYTES}, True), ({"bytes": decode.MAX_BYTES + 1}, False), ({"endless": 1}, True),
        ({"endless": 2}, False), ({"animated": 2}, False), ({"flat": 255}, False), ({"brightness": np.inf}, False),
        *(({name: np.nan}, False) for name in quality.SCORES),
        ({"problem": b"damaged", "format": b"HEIC", "width": 0, "bytes": 0}, True),
        ({"problem": b"damaged", "format": b"\x80"}, False), ({"problem": b"damaged", "format": b"\x7f"}, True),
        ({"problem": b"damaged", "dark": np.nan}, False), ({"problem": b"damaged", "flat": 2}, False),
    ],
)  # fmt: skip
def test_unsound_records_are_found(changes: dict[str, object], sound: bool) -> None:
    """For a file without pixels, a record is unsound only if it would break a computation."""
    assert measurements.are_sound(record(**changes)) == sound
    assert measurements.are_sound(np.concatenate([record(), record(**changes), record()])) == sound


def test_a_file_with_a_known_digest_is_not_decoded(tmp_path: Path) -> None:
    content = encoded(photo(1), "PNG")
    path = write(tmp_path / "a.png", content)
    digest, measured, problem, thumbnail = measurements.measure_file((str(tmp_path), frozenset()), "a.png")
    assert (digest.hex(), problem, len(thumbnail)) == (
        hashlib.sha256(content).hexdigest(),
        "",
        32 * 32 + 3 * 64 + 64,
    )
    assert np.frombuffer(measured, measurements.DTYPE)["bytes"] == len(content)
    assert measurements.measure_file((str(tmp_path), frozenset([digest])), "a.png") == (digest, b"", "", b"")
    path.write_bytes(b"<html>")
    digest, measured, problem, thumbnail = measurements.measure_file((str(tmp_path), frozenset()), "a.png")
    assert (digest, problem, thumbnail) == (b"", "not an image but an HTML page", b"")
    assert np.frombuffer(measured, measurements.DTYPE)[["problem", "bytes"]].tolist() == [(b"not-an-image", 6)]
    for missing in ("none.png", "nul\0.png"):
        assert measurements.measure_file((str(tmp_path), frozenset()), missing)[:2] == (b"", measurements.unusable("missing"))


# -- comparisons --------------------------------------------------------------------------------------------------------------


def test_colour_likeness_is_a_correlation() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    second = np.clip(first.astype(int) + random.integers(-40, 40, first.shape), 0, 255).astype(np.uint8)
    second[1] = 255 - first[1]
    second[2] = second[2].mean(axis=-1, keepdims=True).astype(np.uint8)
    found = similarity.colour_similarity(first, second)
    for number in range(6):
        one, other = (
            (image - image.mean(axis=-1, keepdims=True)).ravel() for image in (first[number] + 0.0, second[number] + 0.0)
        )
        scale = np.linalg.norm(one) * np.linalg.norm(other)
        assert found[number] == pytest.approx(one @ other / scale if scale else 0.0)
    assert (found[1], found[2]) == (pytest.approx(-1), 0)


def test_coarse_thumbnails_are_normalised_block_means() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    thumbnails[2] = 9
    found = similarity.coarse(thumbnails)
    assert (found.shape, found.dtype) == ((3, 64), np.float16)
    for number in range(2):
        blocks = cv2.resize(thumbnails[number].astype(np.float32), (8, 8), interpolation=cv2.INTER_AREA).ravel()
        blocks -= blocks.mean()
        np.testing.assert_allclose(found[number], blocks / np.linalg.norm(blocks), atol=1e-3)
    assert not found[2].any()


def test_the_least_similarity_grows_with_the_distance() -> None:
    found = similarity.min_similarity(np.arange(17, dtype=np.uint8))
    assert found[:12].tolist() == [0.93] * 12
    np.testing.assert_allclose(found[12:], [0.934, 0.941, 0.948, 0.955, 0.962])


def test_flat_thumbnails_have_a_deviation_below_four() -> None:
    for step, flat in ((3, True), (4, False), (5, False)):
        thumbnail = np.full((32, 32), 100, np.uint8)
        thumbnail[:, ::2] += 2 * step
        assert thumbnail.std() == step
        assert similarity.is_flat(thumbnail) == flat


def test_similarity_explains_brightness_contrast_and_shifts() -> None:
    """Similarity is the explained variance of a least-squares fit of seven terms."""
    random = np.random.default_rng(1)
    first = np.stack([np.asarray(photo(number, 32, 32).convert("L")) for number in range(3)])
    second = np.stack([(first[0] // 2 + 20), np.roll(first[1], 1, axis=1), random.integers(0, 256, (32, 32))]).astype(np.uint8)
    found = similarity.similarity(first, second)

    def explained(source: np.ndarray, target: np.ndarray) -> float:
        source, target = (
            cv2.GaussianBlur(image.astype(np.float64), (5, 5), 1.0, borderType=cv2.BORDER_REPLICATE)
            for image in (source, target)
        )
        down, across = np.gradient(source)
        y, x = np.mgrid[-1:1:32j, -1:1:32j]
        centred = source - source.mean()
        terms = [np.ones((32, 32)), centred, centred**2 / 64, across, down, across * x, down * y]
        design = np.stack([term[1:-1:2, 1:-1:2].ravel() for term in terms], axis=1)
        wanted = target[1:-1:2, 1:-1:2].ravel()
        residual = wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
        return float(np.clip(1 - (residual**2).sum() / (((wanted - wanted.mean()) ** 2).sum() + 1), 0, 1))

    expected = [max(explained(one, other), explained(other, one)) for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found[0] > 0.999
    assert found[1] > 0.9
    assert found[2] < 0.3


def test_flipping_precedes_the_other_changes() -> None:
    """About half of the seeds flip the image. The result equals that for the mirrored image without flipping."""
    image = np.asarray(photo(3, 40, 40))
    flipped = 0
    for seed in range(60):
        plain, maybe = (augment.light(image, seed, flip=flip) for flip in (False, True))
        mirrored = augment.light(np.ascontiguousarray(image[:, ::-1]), seed, flip=False)
        if (plain != maybe).any():
            flipped += 1
            assert np.abs(maybe[2:-2, 2:-2].astype(int) - mirrored[2:-2, 2:-2]).max() <= 3
    assert 18 <= flipped <= 42


# -- files --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("kind", "animated"), [(None, True), (0, True), (1, False), (2, True), (3, False)])
def test_pages_of_a_tiff_are_images_unless_they_are_reduced_copies(kind: int | None, animated: bool, big: bool) -> None:
    info = {} if kind is None else {254: kind}
    data = encoded(photo(1), "TIFF", save_all=True, append_images=[photo(2)], tiffinfo=info, big_tiff=big)
    assert containers.is_animated(data, "TIFF") == animated
    assert not containers.is_animated(encoded(photo(1), "TIFF", tiffinfo=info, big_tiff=big), "TIFF")


def test_ends_from_the_sizes_in_headers() -> None:
    odd = b"RIFF" + struct.pack("<I", 5) + b"WEBPx"
    assert containers.end(odd + b"\0", "WEBP") == 14
    assert containers.end(odd[:-1], "WEBP") is None
    assert containers.end(b"RIFF" + struct.pack("<I", 4) + b"WEBP", "WEBP") == 12
    for size, offset, expected in ((20, 19, 20), (20, 20, None), (21, 20, None), (0, 0, None)):
        assert containers.end(b"BM" + struct.pack("<IHHI", size, 0, 0, offset) + bytes(6), "BMP") == expected
    assert containers.end(b"BM", "BMP") is None
    assert containers.end(odd, "TIFF") is None
    assert [kind for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF") if containers.has_end(kind)] == [
        "JPEG",
        "PNG",
        "GIF",
    ]


def test_inputs_are_expanded_to_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs are folders, files and patterns. Patterns also work in folders whose names contain pattern characters."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos [1]/a.png", "photos [1]/deep/b.png", "photos [1]/c", "photos [1]/Thumbs.db", "photos [1]/.git/d.png"):
        write(tmp_path / name, encoded(photo(1), "PNG"))
    write(tmp_path / "photos [1]/notes.txt", b"text")

    def names(*inputs: str, without: Path | None = None) -> list[str]:
        return [
            source.name if not source.problem else f"{source.name}: {source.problem}"
            for source in sources.expand(inputs, without)
        ]

    folder = ["photos [1]/a.png", "photos [1]/c", "photos [1]/deep/b.png"]
    assert names("photos [1]") == folder
    assert names("photos [1]/*.png") == ["photos [1]/a.png"]
    assert sorted(names("photos [1]/**")) == [*folder, "photos [1]/notes.txt"]
    assert names("none*.png") == ["none*.png: no file matches this pattern"]
    assert names("photos [1]/.git") == ["photos [1]/.git/d.png"]
    assert names("missing.png") == ["missing.png"]
    assert names("photos [1]", without=tmp_path / "photos [1]" / "deep") == folder[:2]
    (tmp_path / "empty").mkdir()
    assert names("empty") == ["empty: no images in this folder"]
    (tmp_path / "photos [1]/deep/up").symlink_to("..")
    assert names("photos [1]") == folder
    assert [source.file for source in sources.expand("photos [1]/a.png")] == [Path("photos [1]/a.png")]


def test_arriving_files_are_returned_once_they_are_complete(tmp_path: Path) -> None:
    rounds = sources.arrivals(tmp_path, every=0)
    assert next(rounds) == []
    file = write(tmp_path / "a.png", encoded(photo(1), "PNG"))
    os.utime(file, (1, 1))
    assert next(rounds) == []
    write(file, encoded(photo(2), "PNG"))
    os.utime(file, (2, 2))
    assert next(rounds) == [], "the file is still being written"
    assert [source.name for source in next(rounds)] == [str(file)]
    assert next(rounds) == []
    os.utime(file, (3, 3))
    assert next(rounds) == []
    assert [source.name for source in next(rounds)] == [str(file)]
    file.unlink()
    assert next(rounds) == []
    tmp_path.rmdir()
    with pytest.raises(sources.ImgclfError, match="cannot be watched, because the folder no longer exists"):
        next(rounds)
