"""The decoder and the recipe, on small real files of every kind."""

import io
import socket
import struct
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import bomb, encoded, photo, png_chunk, write
from PIL import Image, ImageOps

from imgclf.base.config import Recipe
from imgclf.base.errors import ImageError
from imgclf.pixels import images

LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True}),
            ("PPM", {}), ("JPEG2000", {})]  # fmt: skip
LOSSY = [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("AVIF", {"quality": 90})]


def expected(picture: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


@pytest.mark.parametrize(("form", "options"), LOSSLESS)
def test_lossless_formats_decode_to_their_exact_pixels(form: str, options: dict) -> None:
    picture = photo(1)
    decoded = images.decode(encoded(picture, form, **options))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, np.asarray(picture))


@pytest.mark.parametrize(("form", "options"), LOSSY)
def test_lossy_formats_decode_like_pillow(form: str, options: dict) -> None:
    data = encoded(photo(2), form, **options)
    difference = np.abs(images.decode(data).astype(int) - expected(Image.open(io.BytesIO(data))))
    assert difference.mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = encoded(photo(3), form, exif=exif, **options)
    decoded, reference = images.decode(data), expected(Image.open(io.BytesIO(data)))
    assert decoded.shape == reference.shape
    assert np.abs(decoded.astype(int) - reference).mean() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_rotation_and_mirror_boxes_are_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation  # Pillow writes it as AVIF's own irot and imir boxes
    data = encoded(photo(3), "AVIF", exif=exif, quality=95)
    decoded, reference = images.decode(data), expected(Image.open(io.BytesIO(data)))
    assert decoded.shape == reference.shape
    assert np.abs(decoded.astype(int) - reference).mean() < 3


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bilevel_and_palette_become_rgb(mode: str) -> None:
    picture = photo(4).convert(mode)
    np.testing.assert_array_equal(images.decode(encoded(picture, "PNG")), expected(picture))


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"), ("LA", "WEBP")])
def test_transparency_is_laid_over_white(mode: str, form: str) -> None:
    picture = photo(5).convert(mode)
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 20:40], alpha[:, 40:] = 128, 255
    picture.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    decoded = images.decode(encoded(picture, form, **options)).astype(int)
    colour = np.asarray(picture.convert("RGB")).astype(int)
    assert (decoded[:, :20] == 255).all()
    np.testing.assert_array_equal(decoded[:, 40:], colour[:, 40:])
    middle = (colour * 128 + 255 * 127 + 127) // 255
    # libtiff rounds the product once more on the way.
    np.testing.assert_allclose(decoded[:, 20:40], middle[:, 20:40], atol=1 if form == "TIFF" else 0)


def test_a_fourth_band_that_is_no_alpha_is_ignored() -> None:
    colours = np.asarray(photo(5))
    bands = np.dstack([colours, np.zeros((40, 60), np.uint8)])
    data = encoded(Image.frombytes("RGBX", (60, 40), bands.tobytes()), "TIFF")
    np.testing.assert_array_equal(images.decode(data), colours)


def test_palette_with_transparency() -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.putpixel((0, 0), 0)
    decoded = images.decode(encoded(picture, "PNG", transparency=0))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[1, 3].tolist() == [200, 100, 50]


def test_gif_animation_gives_its_first_frame() -> None:
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    decoded = images.decode(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert decoded.shape == (6, 8, 3)
    assert (decoded == [255, 0, 0]).all()


def test_cmyk_jpeg_has_its_colours() -> None:
    data = encoded(Image.new("RGB", (16, 16), (200, 60, 30)).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(images.decode(data).astype(int) - (200, 60, 30)).max() <= 6


@pytest.mark.parametrize(("top", "full"), [(200, 255), (900, 1023), (4000, 4095), (16000, 16383), (65535, 65535)])
def test_sixteen_bits_are_scaled_from_the_bits_in_use(top: int, full: int) -> None:
    values = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    decoded = images.decode(cv2.imencode(".png", values)[1].tobytes())
    np.testing.assert_array_equal(decoded[..., 1], np.rint(values * (255 / full)).astype(np.uint8))


def test_sixteen_bit_colour_with_alpha() -> None:
    values = np.full((4, 4, 4), 65535, np.uint16)
    values[..., :3] = (1000, 2000, 4000)  # 12-bit colours behind a 16-bit alpha
    decoded = images.decode(cv2.imencode(".png", values)[1].tobytes())
    assert decoded[0, 0].tolist() == [round(4000 / 4095 * 255), round(2000 / 4095 * 255), round(1000 / 4095 * 255)]


def test_floating_point_tiff_in_0_to_1() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    decoded = images.decode(cv2.imencode(".tiff", values)[1].tobytes())
    np.testing.assert_array_equal(decoded[..., 0], np.rint(values.astype(np.float64) * 255).astype(np.uint8))


def test_floating_point_tiff_without_a_known_range_is_refused() -> None:
    for bad in (np.full((4, 4), np.nan, np.float32), np.full((4, 4), 1e6, np.float32), np.full((4, 4), -1, np.float32)):
        with pytest.raises(ImageError, match="floating-point") as caught:
            images.decode(cv2.imencode(".tiff", bad)[1].tobytes())
        assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(("form", "options"), [*LOSSLESS, *LOSSY, ("GIF", {})])
def test_truncated_files_never_pass(form: str, options: dict) -> None:
    data = encoded(photo(6), form, **options)
    for length in {1, 10, 40, len(data) // 3, len(data) // 2, len(data) * 9 // 10, len(data) - 20}:
        with pytest.raises(ImageError):
            images.decode(data[:length])


def test_a_flipped_bit_in_a_png_is_found() -> None:
    data = bytearray(encoded(photo(7), "PNG"))
    data[len(data) // 2] ^= 0x40
    with pytest.raises(ImageError) as caught:
        images.decode(bytes(data))
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize("length", [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"])
@pytest.mark.parametrize("name", [b"tEXt", b"IDAT", b"IEND"])
def test_no_room_is_made_for_what_a_png_only_claims(name: bytes, length: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV would take the 2 or 4 GB before it looks whether there are so many bytes; so it must not be asked."""
    data = encoded(photo(7), "PNG")
    monkeypatch.setattr(images.cv2, "imdecodeWithMetadata", None)
    with pytest.raises(ImageError, match="cannot be decoded to the end"):
        images.decode(data[:33] + length + name + data[33:])


def test_a_jpeg_that_has_fewer_bits_than_blocks_is_none() -> None:
    whole = bytearray(encoded(photo(7)))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", 2000, 65500)
    with pytest.raises(ImageError, match="damaged"):
        images.decode(bytes(whole))
    plain = encoded(Image.new("L", (4000, 3000), 128), optimize=True, progressive=True)  # as few bits as there can be
    assert images.decode(plain).shape == (3000, 4000, 3)


def test_a_jpeg_2000_without_some_of_its_tiles_is_damaged() -> None:
    whole = encoded(photo(7), "JPEG2000", tile_size=(16, 16))
    np.testing.assert_array_equal(images.decode(whole), np.asarray(photo(7)))
    ends = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\x90"]
    assert len(ends) == 12
    for at in ends:
        with pytest.raises(ImageError):
            images.decode(whole[:at] + b"\xff\xd9")


def test_a_tiff_that_libtiff_would_leave_black_is_no_picture() -> None:
    """It says nothing when 8-bit colours cannot be unpacked."""
    deflated = encoded(photo(7), "TIFF", compression="tiff_adobe_deflate")
    np.testing.assert_array_equal(images.decode(deflated), np.asarray(photo(7)))
    at = deflated.index(b"\x03\x01\x03\0\x01\0\0\0\x08\0")  # the tag Compression
    for compression in (9, 33003, 50002):
        other = deflated[: at + 8] + struct.pack("<H", compression) + deflated[at + 10 :]
        with pytest.raises(ImageError, match=f"TIFF of compression {compression}, which is not supported"):
            images.decode(other)
    for place in range(len(deflated) // 3, len(deflated) - 400, 97):
        flipped = bytearray(deflated)
        flipped[place] ^= 1
        with pytest.raises(ImageError, match="damaged"):
            images.decode(bytes(flipped))


def test_a_bomb_is_refused_from_its_header() -> None:
    with pytest.raises(ImageError, match="20000 x 20000 pixels, more than the limit of 134 megapixels") as caught:
        images.header(bomb())
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"\n <html>", "HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "vector image"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04 ...........", "ZIP"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "video"),
        (b"remember the milk", "not an image"),
        (b"BMW is a car", "not an image"),
    ],
)
def test_impostors_are_named(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        images.read(write(tmp_path / "x.jpg", content))
    assert caught.value.reason == "not-an-image"


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        images.read(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="a folder"):
        images.read(tmp_path)
    with pytest.raises(ImageError, match="zero bytes"):
        images.read(write(tmp_path / "empty.jpg", b""))
    with pytest.raises(ImageError, match="no such file"):
        images.read(tmp_path / "nul\0byte.jpg")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    with server, pytest.raises(ImageError, match="not a regular file"):
        images.read(tmp_path / "s")


def test_every_format_is_recognised_by_its_bytes() -> None:
    names = {"JPEG2000": "JPEG 2000", "PPM": "PNM"}
    for form, options in [*LOSSLESS, *LOSSY, ("GIF", {})]:
        data = encoded(photo(8), form, **options)
        head = images.header(data)
        assert head == images.Header(names.get(form, form), 60, 40)
        assert images.sniff(data[:32]) == names.get(form, form)


def test_damaged_headers_raise_image_errors_only() -> None:
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form, options in [*LOSSLESS, *LOSSY, ("GIF", {})]:
            whole = encoded(photo(9), form, **options)
            for _ in range(60):
                data = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.5 else whole)
                for place in random.integers(0, min(len(data), 120), 3):
                    data[place] = random.integers(256)
                try:
                    assert images.decode(bytes(data)).ndim == 3
                except ImageError as error:
                    assert str(error)


# -- the recipe ---------------------------------------------------------------------------------------------------------


def test_shrinking_is_area_averaging() -> None:
    """One bright pixel in the corner of each block of 4 x 4: averaging sees it, sampling between the middle ones does not."""
    dots = np.zeros((64, 64, 3), np.uint8)
    dots[::4, ::4] = 160
    np.testing.assert_array_equal(images.apply(Recipe(16, 16), dots), np.full((16, 16, 3), 10))


def test_one_side_shrinks_while_the_other_grows() -> None:
    stripes = np.zeros((4, 64, 3), np.uint8)
    stripes[:, ::4] = 160
    np.testing.assert_array_equal(images.apply(Recipe(16, 16), stripes), np.full((16, 16, 3), 40))


def test_the_right_size_is_left_alone() -> None:
    picture = np.asarray(photo(10, 24, 24))
    for aspect in ("squash", "crop", "pad"):
        np.testing.assert_array_equal(images.apply(Recipe(24, 24, aspect), picture), picture)


def test_crop_takes_the_centre_and_pad_keeps_all() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = 10, 20, 30
    np.testing.assert_array_equal(images.apply(Recipe(10, 10, "crop"), wide), np.full((10, 10, 3), 20))
    padded = images.apply(Recipe(30, 30, "pad"), wide)
    np.testing.assert_array_equal(padded[10:20], wide)
    assert (padded[:10] == 128).all()
    assert (padded[20:] == 128).all()


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7), (40, 40)])
def test_any_picture_fits(aspect: str, size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 77, np.uint8)
    shaped = images.apply(Recipe(20, 28, aspect), picture)
    assert shaped.shape == (20, 28, 3)
    assert set(np.unique(shaped)) <= {77, 128}


def test_the_hash_of_a_recipe_changes_with_anything_in_it() -> None:
    hashes = {Recipe(20, 28).hash, Recipe(28, 20).hash, Recipe(20, 28, "pad").hash}
    for name in ("kernel", "colour", "decoder"):  # with one allowed value each
        object.__setattr__(other := Recipe(20, 28), name, "other")
        hashes.add(other.hash)
    assert len(hashes) == 6
    assert Recipe(20, 28).hash == Recipe(height=20, width=28, aspect="squash").hash


def test_encode_is_lossless() -> None:
    picture = np.asarray(photo(11, 31, 17))
    for extension in (".bmp", ".png"):
        np.testing.assert_array_equal(images.decode(images.encode(picture, extension)), picture)


def test_a_bare_jpeg_2000_codestream() -> None:
    data = encoded(photo(12), "JPEG2000")
    codestream = data[data.index(b"\xff\x4f\xff\x51") :]
    assert images.header(codestream) == images.Header("JPEG 2000", 60, 40)
    np.testing.assert_array_equal(images.decode(codestream), np.asarray(photo(12)))


def test_a_bmp_of_os_2() -> None:
    pixels = np.asarray(photo(12))
    head = b"BM" + struct.pack("<IHHIIHHHH", 26 + pixels.size, 0, 0, 26, 12, 60, 40, 1, 24)
    np.testing.assert_array_equal(images.decode(head + pixels[::-1, :, ::-1].tobytes()), pixels)


def test_a_number_without_end_takes_no_time() -> None:
    """The parser of PNM headers copies all digits for each one more: a megabyte of them took half a minute."""
    began = time.monotonic()
    with pytest.raises(ImageError, match="its header gives no size"):
        images.header(b"P6 " + b"9" * 1_000_000)
    assert time.monotonic() - began < 3


def test_png_with_trailing_text_chunk_still_decodes() -> None:
    data = encoded(photo(12), "PNG")
    with_text = data[:33] + png_chunk(b"tEXt", b"Comment\0hello") + data[33:]
    np.testing.assert_array_equal(images.decode(with_text), np.asarray(photo(12)))
