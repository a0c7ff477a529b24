"""Test TIFF: a sample of all layouts, and what is refused. tests/benchmarks/tiff_layouts.py tests all layouts."""

import io
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiffs
from conftest import encoded, photo
from PIL import Image
from tiffs import BLACK_0, CMYK, LAB, RGB, WHITE_0, Layout

from imgclf.core.errors import ImageError
from imgclf.images import decode
from imgclf.images.formats import tiff_layout, unpacking


def made(layout: Layout, seed: int = 1) -> tuple[bytes, np.ndarray]:
    """Return (the file, the pixels that it must decode to)."""
    values = tiffs.samples(layout, seed)
    return tiffs.written(layout, values), tiffs.expected(layout, values)


def refused(data: bytes, words: str = "TIFF") -> str:
    """Return the reason for which a file is refused."""
    with pytest.raises(ImageError, match=words) as caught:
        decode.decode(data)
    return caught.value.reason


def test_a_sample_of_all_layouts() -> None:
    """Supported layouts decode to the pixels by the definitions of TIFF 6.0. Others are unsupported and never damaged."""
    equal = refusals = 0
    for number, layout in enumerate(tiffs.layouts()):
        if number % 11 and not (number % 3 == 0 and tiffs.is_supported(layout)):
            continue
        data, wanted = made(layout, number)
        if not tiffs.is_supported(layout):
            assert refused(data) == "unsupported", layout
            refusals += 1
            continue
        difference = np.abs(decode.decode(data).astype(int) - wanted).max()
        assert difference <= (layout.photometric == tiffs.YCBCR), layout
        equal += 1
    assert equal > 400
    assert refusals > 200


def test_deep_samples_in_planes_decode() -> None:
    """OpenCV decodes one third of such an image and leaves the rest of its memory uninitialised."""
    for depth in ("u16", "f32", "f64"):
        data, wanted = made(Layout(depth, RGB, planar=True))
        np.testing.assert_array_equal(decode.decode(data), wanted)


def test_white_is_zero_decodes() -> None:
    for depth in ("u1", "u4", "u8", "u16", "f32"):
        data, wanted = made(Layout(depth, WHITE_0))
        assert wanted[0, 0].tolist() == [255, 255, 255]  # pixel of value 0
        np.testing.assert_array_equal(decode.decode(data), wanted)


@pytest.mark.parametrize("depth", ["u8", "u16"])
def test_a_fourth_band_is_alpha_only_if_the_file_declares_it(depth: str) -> None:
    values = tiffs.samples(Layout(depth, RGB, (0,)), 2)
    colours = tiffs.expected(Layout(depth), values[..., :3])
    unspecified = tiffs.written(Layout(depth, RGB, (0,)), values)
    unmentioned = tiffs.written(Layout(depth, RGB, (0,)), values, {338: (3, ())})
    for data in (unspecified, unmentioned):
        np.testing.assert_array_equal(decode.decode(data), colours)
    declared = tiffs.written(Layout(depth, RGB, (2,)), values)
    assert (decode.decode(declared) != colours).any()


def test_floating_point_is_scaled_from_0_to_1_whatever_its_maximum_is() -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8, 1)
    plain = decode.decode(tiffs.written(Layout("f32", BLACK_0), values))
    for far in (1.0001, 1.01, 1.2, -0.01, -0.2):
        values[-1, -1] = far
        decoded = decode.decode(tiffs.written(Layout("f32", BLACK_0), values))
        np.testing.assert_array_equal(decoded[:-1], plain[:-1])
        assert decoded[-1, -1, 0] == (255 if far > 0 else 0)
    for far in (1.3, 255.0, 1e30, -0.5, np.nan, np.inf):
        values[-1, -1] = far
        data = tiffs.written(Layout("f32", BLACK_0), values)
        assert refused(data, "floating-point values .* only 0 to 1 is supported") == "unsupported"


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout("u8", RGB, (0, 0)), "5 bands"),
        (Layout("u16", BLACK_0, (0, 0)), "3 bands"),
        (Layout("u16", CMYK), "CMYK with 16 bits"),
        (Layout("u8", LAB), "Lab"),
        (Layout("u32", BLACK_0), "samples of 32 bits"),
    ],
)
def test_unsupported_layouts_are_not_damaged(layout: Layout, words: str) -> None:
    assert refused(made(layout)[0], words) == "unsupported"


@pytest.mark.parametrize(
    ("tag", "kind", "value", "words"),
    [
        (259, 3, 50_000, "compression 50000"), (262, 3, 32_803, "sensor data in a TIFF"), (262, 3, 99, "colours of kind 99"),
        (262, 3, None, "does not declare"), (339, 3, 2, "signed"), (258, 3, 24, "24 bits"), (317, 3, 9, "predictor 9"),
    ],
)  # fmt: skip
def test_unsupported_tags_are_not_damaged(tag: int, kind: int, value: int | None, words: str) -> None:
    layout = Layout("u8", BLACK_0, compression=8)
    data = tiffs.written(layout, tiffs.samples(layout, 1), {tag: (kind, () if value is None else (value,))})
    assert refused(data, words) == "unsupported"


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_missing_bytes_are_damage_in_every_compression(compression: int, tile: tuple[int, int] | None) -> None:
    """Each strip or tile is cut in turn, together with its size in the directory. Missing pixels must not become black."""
    layout = Layout("u8", RGB, compression=compression, tile=tile)
    values = tiffs.samples(layout, 3)
    whole = tiffs.written(layout, values)
    tags = tiff_layout.read_tags(io.BytesIO(whole))
    sizes = tags[325 if tile else 279]
    for place, size in enumerate(sizes):
        cut = (*sizes[:place], size // 2, *sizes[place + 1 :])
        assert refused(tiffs.written(layout, values, {325 if tile else 279: (4, cut)})) == "damaged"
    places = tags[324 if tile else 273]
    assert refused(tiffs.written(layout, values, {324 if tile else 273: (4, places[:-1])})) == "damaged"
    assert refused(tiffs.written(layout, values, {324 if tile else 273: (4, (*places[:-1], len(whole) + 9))})) == "damaged"
    assert refused(whole[: places[-1] + 1]) == "damaged"


def test_flipped_bits_in_deflate_are_damage() -> None:
    layout = Layout("u8", RGB, compression=8, rows=1000)
    data = bytearray(made(layout)[0])
    (start,), (size,) = (tiff_layout.read_tags(io.BytesIO(data))[tag] for tag in (273, 279))
    for place in range(start, start + size, 37):
        data[place] ^= 1
        assert refused(bytes(data)) == "damaged"
        data[place] ^= 1


def test_invalid_lzw_is_refused() -> None:
    raw = bytes(range(256)) * 40
    packed = tiffs.lzw(raw)
    assert b"".join(unpacking.blocks(5, memoryview(packed), 64, 160)) == raw
    for wrong in (b"", b"\x80", packed[: len(packed) // 2], b"\x80\x40\x40" + packed, packed[:5] + b"\xff" * 200):
        with pytest.raises(ValueError, match=r"code|rows"):
            list(unpacking.blocks(5, memoryview(wrong), 64, 160))
    for length in (1, 2, 9, 255, 256, 3000, 5000, 20_000):  # codes of every width, and full tables
        raw = np.random.default_rng(length).integers(0, 5 if length % 2 else 256, length, np.uint8).tobytes()
        assert b"".join(unpacking.blocks(5, memoryview(tiffs.lzw(raw)), length, 1)) == raw


@pytest.mark.parametrize("options", [{"compression": "jpeg", "quality": 95}, {"compression": "jpeg", "strip_size": 2000}])
@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
def test_jpeg_in_tiff_decodes_as_in_libtiff(mode: str, options: dict) -> None:
    """The TIFF, not the JPEG in it, declares whether the samples are RGB or YCbCr."""
    data = encoded(photo(3).convert(mode), "TIFF", **options)
    reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode.decode(data) - reference).max() <= 3
    cut = data.replace(b"\xff\xda", b"\xff\xd9", 1)
    assert refused(cut) == "damaged"


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_compressions_decode(compression: str) -> None:
    image = photo(4).convert("1")
    data = encoded(image, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode.decode(data)[..., 0], np.asarray(image) * 255)


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_truncated_fax_is_damaged(compression: str) -> None:
    """libtiff leaves the missing pixels white and reports no error."""
    noise = np.random.default_rng(0).random((64, 80)) > 0.5
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "TIFF", compression=compression)
    tags = tiff_layout.read_tags(file)
    (place,), (size,) = tags[tiff_layout.STRIPS], tags[tiff_layout.STRIP_SIZES]
    whole = {256: (4, (80,)), 257: (4, (64,)), 258: (3, (1,)), 259: (3, tags[259]), 262: (3, tags[262]), 278: (4, (64,))}
    piece = file.getvalue()[place : place + size]
    wanted = decode.decode(file.getvalue())
    for cut in range(0, size, 25):
        data = tiffs.assembled(whole, [piece[: size - cut]], "<", False, {}, False)
        if cut < 3:
            np.testing.assert_array_equal(decode.decode(data), wanted)
        else:
            assert refused(data) == "damaged"


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "raw"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16", "LA", "RGBA", "CMYK"])
def test_files_of_pillow_decode(mode: str, compression: str) -> None:
    image = photo(5)
    if mode == "I;16":
        values = np.asarray(image.convert("L")).astype(np.uint16) * 257
        data = encoded(Image.fromarray(values), "TIFF", compression=compression)
        wanted = np.dstack([values // 257] * 3)
    else:
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        data = encoded(image.convert(mode), "TIFF", compression=compression)
        shown = np.asarray(image.convert(mode).convert("RGBA")).astype(int)
        wanted = (shown[..., :3] * shown[..., 3:] + 255 * (255 - shown[..., 3:]) + 127) // 255
    assert np.abs(decode.decode(data).astype(int) - wanted).max() <= (1 if mode == "CMYK" else 0)


def test_a_decompression_bomb_takes_little_memory_and_time() -> None:
    """Each file declares gigabytes or inflates to them. It is refused, or decoded in small pieces."""
    child = (
        "import resource, sys\nfrom imgclf.core.errors import ImageError\nfrom imgclf.images import decode\n"
        "try:\n    print(decode.decode(sys.stdin.buffer.read()).shape)\nexcept ImageError as error:\n    print(error.reason)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    layout = Layout("u8", BLACK_0, compression=8, rows=1000)
    small = tiffs.written(layout, tiffs.samples(layout, 1))
    values = np.zeros((8, 8, 1), np.uint8)
    huge = tiffs.written(layout, values, {322: (4, (60_000,)), 323: (4, (60_000,)), 324: (4, (8,)), 325: (4, (99,))})
    wide = tiffs.written(layout, values, {256: (4, (11_000,)), 257: (4, (11_000,))})
    deep = tiffs.written(Layout("f64", RGB, compression=8), np.zeros((8, 8, 3)), {256: (4, (11_000,)), 257: (4, (11_000,))})
    many = tiffs.written(layout, values, {257: (4, (130_000_000,)), 256: (4, (1,)), 278: (4, (1,))})
    row = zlib.compress(bytes(1 << 28), 9)  # 2**31 bits
    one_row = tiffs.assembled(
        {258: (3, (1,)), 259: (3, (8,)), 262: (3, (1,)), 256: (4, (4,)), 257: (4, (1,)), 322: (4, (1 << 31,)), 323: (4, (1,))},
        [row], "<", False, {}, True,
    )  # fmt: skip
    peaks = []
    for data in (small, huge, wide, deep, many, one_row):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", child], input=data, capture_output=True, check=True)
        assert time.monotonic() - began < 20
        *_words, memory = done.stdout.decode().split()
        peaks.append(int(memory))
    assert max(peaks) < 1.2 * peaks[0] + 130_000  # kilobytes: at most the memory of an image of 121 megapixels


def test_strips_that_share_their_bytes_do_not_multiply_the_work() -> None:
    """Each strip unpacks a megabyte of empty runs before its one row. Small strips may share their bytes."""
    body = b"\x80" * (1 << 20) + tiffs.packbits(bytes(64))
    tags = {256: (4, (64,)), 257: (4, (256,)), 258: (3, (8,)), 259: (3, (32773,)), 262: (3, (1,)), 278: (4, (1,))}

    def shared(piece: bytes) -> bytes:
        return tiffs.assembled(tags, [piece], "<", False, {273: (4, (8,) * 256), 279: (4, (len(piece),) * 256)}, False)

    assert refused(shared(body), "share") == "unsupported"
    assert decode.decode(shared(tiffs.packbits(bytes(64)))).shape == (256, 64, 3)


def test_directories_stay_out_of_the_struct_cache() -> None:
    """`struct` caches compiled formats, with 32 bytes for each letter of a format."""
    data = [tiffs.written(Layout("u8", BLACK_0), np.zeros((8, 8, 1)), {347: (1, (0,) * (200_000 + n))}) for n in range(5)]
    tracemalloc.start()
    try:
        for each in data:
            decode.decode(each)
        kept, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5_000_000


@pytest.mark.parametrize(("photometric", "tag", "count"), [(tiffs.PALETTE, 320, 768), (BLACK_0, 293, 1), (BLACK_0, 274, 1)])
def test_numbers_of_more_than_32_bits_are_damage(photometric: int, tag: int, count: int) -> None:
    layout = Layout("u8", photometric, big=True)
    assert refused(tiffs.written(layout, np.zeros((8, 8, 1), np.uint8), {tag: (16, (1 << 40,) * count)})) == "damaged"


def test_decoding_does_not_depend_on_uninitialised_memory() -> None:
    """MALLOC_PERTURB_ fills allocated memory. A byte that no decoder writes differs between the two values."""
    outputs = []
    for value in ("1", "200"):
        command = [sys.executable, str(Path(__file__).parents[1] / "decodes.py")]
        environment = os.environ | {"MALLOC_PERTURB_": value}
        outputs.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    first, second = (child.communicate()[0].decode().splitlines() for child in outputs)
    assert all(child.returncode == 0 for child in outputs)
    assert len(first) > 1500
    assert [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]] == []


def test_a_damaged_directory_raises_image_errors_only() -> None:
    whole = bytearray(made(Layout("u8", RGB, compression=5, big=True, order=">"))[0])
    (start,) = struct.unpack_from(">Q", whole, 8)
    random_ = np.random.default_rng(9)
    for _turn in range(300):
        data = bytearray(whole)
        for place in random_.integers(start, len(data), 3):
            data[place] = random_.integers(256)
        try:
            assert decode.decode(bytes(data)).dtype == np.uint8
        except ImageError as error:
            assert error.reason in ("damaged", "unsupported", "too-large")
