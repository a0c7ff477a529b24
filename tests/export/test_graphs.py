"""The preprocessing as TensorFlow operations gives what OpenCV gives: what a SavedModel decodes by itself."""

import functools
from typing import Any

import numpy as np
import pytest
from conftest import encoded, photo, png_chunk
from hostile import _rows, png
from PIL import Image

from imgclf.core.config import Aspect, Preprocessing
from imgclf.export import graphs
from imgclf.images import decode, preprocess


@functools.cache
def graph(preprocessing: Preprocessing) -> Any:
    import tensorflow as tf

    return tf.function(lambda one: graphs.pixels(preprocessing, one), input_signature=[tf.TensorSpec((), tf.string)])


def both(preprocessing: Preprocessing, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    return graph(preprocessing)(data).numpy().astype(int), preprocess.apply(preprocessing, decode.decode(data)).astype(int)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_decodes_to_the_same_bits(mode: str, subsampling: int) -> None:
    data = encoded(photo(1, 61, 43).convert(mode), subsampling=subsampling, quality=80)
    found, expected = both(Preprocessing(43, 61), data)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_its_exif_says(orientation: int, endian: str) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker's name, so that the tag is not the first"
    exif[0x0112] = orientation
    data = encoded(photo(2), exif=exif, quality=95)
    assert (b"MM\0" in data) == (endian == ">")
    turned = decode.decode(data)
    assert turned.shape == ((60, 40, 3) if orientation > 4 else (40, 60, 3))
    found, expected = both(Preprocessing(*turned.shape[:2]), data)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_a_broken_exif_block_turns_nothing(content: bytes) -> None:
    data = encoded(photo(2))
    data = data[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + data[2:]
    found, expected = both(Preprocessing(40, 60), data)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(400, 300), (31, 400), (400, 31), (20, 17), (64, 64), (97, 64), (1, 1)])
def test_the_resize_differs_by_rounding_alone(size: tuple[int, int], aspect: Aspect) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found, expected = both(Preprocessing(64, 64, aspect), preprocess.encode(noise, ".png"))
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.3


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "LA"])
def test_a_png_shows_white_where_it_is_transparent(mode: str) -> None:
    image = photo(3).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    found, expected = both(Preprocessing(40, 60), encoded(image.convert(mode), "PNG"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_png_of_any_depth_and_with_a_transparent_colour(depth: int, transparent: bool) -> None:
    values = np.random.default_rng(depth).integers(0, 1 << depth, (40, 64))
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(40, -1).astype(np.uint8), axis=1)
    level = png_chunk(b"tRNS", int(values[7, 7]).to_bytes(2, "big")) if transparent else b""
    found, expected = both(Preprocessing(40, 64), png((64, 40), _rows(rows), depth=depth, colour=0, before=level))
    np.testing.assert_array_equal(found, expected)
    if depth == 16:
        colours = np.random.default_rng(3).integers(0, 65536, (40, 64, 3)).astype(">u2")
        level = png_chunk(b"tRNS", colours[7, 7].tobytes()) if transparent else b""
        found, expected = both(Preprocessing(40, 64), png((64, 40), _rows(colours), depth=16, before=level))
        np.testing.assert_array_equal(found, expected)
