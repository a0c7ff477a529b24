"""Test the decoder and the preprocessing with small files of every format."""

import io
import socket
import struct
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import bomb, encoded, photo, png_chunk, write
from hostile import png
from PIL import Image, ImageOps

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImageError
from imgclf.images import decode, header, preprocess
from imgclf.images.formats import filetypes, pnm

LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True}),
            ("PPM", {}), ("JPEG2000", {})]  # fmt: skip
LOSSY = [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("AVIF", {"quality": 90})]


def expected(image: Image.Image) -> np.ndarray:
    """Return the upright RGB pixels that Pillow decodes."""
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize(("form", "options"), LOSSLESS)
def test_lossless_formats_decode_to_their_exact_pixels(form: str, options: dict) -> None:
    image = photo(1)
    decoded = decode.decode(encoded(image, form, **options))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, np.asarray(image))


@pytest.mark.parametrize(("form", "options"), LOSSY)
def test_lossy_formats_decode_as_in_pillow(form: str, options: dict) -> None:
    data = encoded(photo(2), form, **options)
    difference = np.abs(decode.decode(data).astype(int) - expected(Image.open(io.BytesIO(data))))
    assert difference.mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = encoded(photo(3), form, exif=exif, **options)
    decoded, reference = decode.decode(data), expected(Image.open(io.BytesIO(data)))
    assert decoded.shape == reference.shape
    assert np.abs(decoded.astype(int) - reference).mean() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_rotation_and_mirror_boxes_are_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation  # Pillow writes it to the irot and imir boxes
    data = encoded(photo(3), "AVIF", exif=exif, quality=95)
    decoded, reference = decode.decode(data), expected(Image.open(io.BytesIO(data)))
    assert decoded.shape == reference.shape
    assert np.abs(decoded.astype(int) - reference).mean() < 3


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bilevel_and_palette_become_rgb(mode: str) -> None:
    image = photo(4).convert(mode)
    np.testing.assert_array_equal(decode.decode(encoded(image, "PNG")), expected(image))


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"), ("LA", "WEBP")])
def test_transparency_is_composited_over_white(mode: str, form: str) -> None:
    image = photo(5).convert(mode)
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 20:40], alpha[:, 40:] = 128, 255
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    decoded = decode.decode(encoded(image, form, **options)).astype(int)
    colour = np.asarray(image.convert("RGB")).astype(int)
    assert (decoded[:, :20] == 255).all()
    np.testing.assert_array_equal(decoded[:, 40:], colour[:, 40:])
    middle = (colour * 128 + 255 * 127 + 127) // 255
    np.testing.assert_array_equal(decoded[:, 20:40], middle[:, 20:40])


def test_a_fourth_band_that_is_no_alpha_is_ignored() -> None:
    colours = np.asarray(photo(5))
    bands = np.dstack([colours, np.zeros((40, 60), np.uint8)])
    data = encoded(Image.frombytes("RGBX", (60, 40), bands.tobytes()), "TIFF")
    np.testing.assert_array_equal(decode.decode(data), colours)


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((0, 0), 0)
    decoded = decode.decode(encoded(image, "PNG", transparency=0))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[1, 3].tolist() == [200, 100, 50]


def test_a_gif_animation_decodes_to_its_first_frame() -> None:
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    decoded = decode.decode(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert decoded.shape == (6, 8, 3)
    assert (decoded == [255, 0, 0]).all()


def test_a_cmyk_jpeg_decodes_to_its_colours() -> None:
    data = encoded(Image.new("RGB", (16, 16), (200, 60, 30)).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode.decode(data).astype(int) - (200, 60, 30)).max() <= 6


@pytest.mark.parametrize("top", [200, 900, 1023, 1024, 4000, 16000, 65535])
def test_sixteen_bits_are_scaled_by_their_depth_not_by_their_maximum(top: int) -> None:
    values = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    decoded = decode.decode(cv2.imencode(".png", values)[1].tobytes())
    np.testing.assert_array_equal(decoded[..., 1], np.rint(values / 257).astype(np.uint8))


def test_one_pixel_does_not_change_the_others() -> None:
    """Two frames of one camera are scaled alike, whatever their brightest pixels are."""
    noise = np.random.default_rng(1).integers(0, 1000, (40, 60)).astype(np.uint16)
    for form in ("PNG", "TIFF", "PPM", "JPEG2000"):
        frames = []
        for brightest in (1023, 1024, 65535):
            noise[0, 0] = brightest
            frames.append(decode.decode(encoded(Image.fromarray(noise), form))[1:])
        np.testing.assert_array_equal(frames[0], frames[1])
        np.testing.assert_array_equal(frames[0], frames[2])


def test_the_significant_bits_of_a_png_are_its_upper_bits() -> None:
    """By the PNG specification, samples of 12 bits are scaled to 16 bits, and sBIT declares the 12."""
    twelve = np.random.default_rng(2).integers(0, 4096, (8, 8)).astype(np.uint16)
    twelve[0, :2] = 0, 4095
    data = cv2.imencode(".png", twelve << 4)[1].tobytes()
    declared = data[:33] + png_chunk(b"sBIT", b"\x0c") + data[33:]
    np.testing.assert_array_equal(decode.decode(declared)[..., 0], np.rint(twelve / 4095 * 255))
    colours = np.dstack([twelve << 4, twelve << 6, twelve << 8]).astype(np.uint16)  # blue has 12 bits, green 10, red 8
    data = cv2.imencode(".png", colours)[1].tobytes()
    declared = data[:33] + png_chunk(b"sBIT", b"\x08\x0a\x0c") + data[33:]
    wanted = [(colours[..., 2 - n] >> 16 - bits) / (2**bits - 1) * 255 for n, bits in enumerate((8, 10, 12))]
    np.testing.assert_array_equal(decode.decode(declared), np.rint(np.dstack(wanted)))


def test_sixteen_bit_colour_with_alpha_decodes() -> None:
    values = np.full((4, 4, 4), 65535, np.uint16)
    values[..., :3] = (10_000, 20_000, 40_000)
    values[0, 0, 3] = 0
    decoded = decode.decode(cv2.imencode(".png", values)[1].tobytes())
    assert decoded[1, 0].tolist() == [156, 78, 39]
    assert decoded[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_level_becomes_white(depth: int) -> None:
    values = np.random.default_rng(depth).integers(0, 1 << depth, (9, 16)).astype(np.uint16)
    level = int(values[4, 4])
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(9, -1).astype(np.uint8), axis=1)
    made = png((16, 9), b"".join(b"\0" + row.tobytes() for row in rows), depth=depth, colour=0,
               before=png_chunk(b"tRNS", struct.pack(">H", level)))  # fmt: skip
    wanted = np.floor(values / ((1 << depth) - 1) * 255 + 0.5)
    wanted[values == level] = 255
    np.testing.assert_array_equal(decode.decode(made), np.dstack([wanted] * 3))


@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_avif_of_10_and_12_bits(depth: int, has_alpha: bool) -> None:
    smooth = cv2.GaussianBlur(np.random.default_rng(3).random((40, 60, 4)), (0, 0), 6)
    values = np.rint(smooth * ((1 << depth) - 1)).astype(np.uint16)
    values[:20, :, 3], values[20:, :, 3] = (1 << depth) - 1, 0
    values = values if has_alpha else np.ascontiguousarray(values[..., :3])
    data = cv2.imencode(".avif", values, [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100])[1].tobytes()
    decoded = decode.decode(data).astype(int)
    assert np.abs(decoded[:18] - np.rint(values[:18, :, 2::-1] * (255 / ((1 << depth) - 1)))).mean() < 2
    assert (decoded[22:] > 250).all() == has_alpha


def test_jpeg_2000_of_12_bits_and_of_four_bands() -> None:
    """OpenCV returns 12-bit values unscaled. A fourth band is alpha only if the file declares it."""
    values = np.random.default_rng(4).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    whole = encoded(Image.fromarray(values, "RGBA"), "JPEG2000")
    assert np.abs(decode.decode(whole).astype(int) - over_white(values)).max() <= 1
    stream = whole[whole.index(b"\xff\x4f\xff\x51") :]  # without the boxes that declare alpha
    np.testing.assert_array_equal(decode.decode(stream), values[..., :3])
    deep = bytearray(encoded(Image.fromarray(values[..., 0].astype(np.uint16) * 16), "JPEG2000"))
    at = deep.index(b"\xff\x4f\xff\x51")
    assert deep[at + 42] == 15
    deep[at + 42] = 11
    assert decode._max_value(bytes(deep), "JPEG 2000") == 4095
    for mode in ("LA", "YCbCr"):
        with pytest.raises(ImageError, match=r"JPEG 2000 of .* not supported") as caught:
            decode.decode(encoded(photo(3).convert(mode), "JPEG2000"))
        assert caught.value.reason == "unsupported"


def over_white(values: np.ndarray) -> np.ndarray:
    """Composite (h, w, 4) uint8 RGBA over white; return (h, w, 3)."""
    alpha = values[..., 3:].astype(float)
    return np.rint((values[..., :3] * alpha + 255 * (255 - alpha)) / 255)


def bmp(bits: int, pixels: bytes, masks: tuple[int, ...] = (), head: int = 40) -> bytes:
    """Return a BMP of 48 x 36 pixels. The rows of `pixels` are from the bottom up."""
    body = struct.pack("<IiiHHIIiiII", head, 48, 36, 1, bits, 3 if masks else 0, len(pixels), 0, 0, 0, 0)
    more = struct.pack(f"<{len(masks)}I", *masks).ljust(max(head - 40, 4 * len(masks)), b"\0")
    at = 14 + len(body) + len(more)
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + body + more + pixels


def test_bmp_of_16_bits_reaches_white() -> None:
    """OpenCV only shifts 5 bits to 8, which makes white 248."""
    values = np.random.default_rng(5).integers(0, 65536, (36, 48)).astype("<u2")
    values[0, 0] = 65535
    for masks, shifts in (((), (10, 5, 0)), ((0xF800, 0x7E0, 0x1F), (11, 5, 0))):
        tops = (31, 63, 31) if masks else (31, 31, 31)
        wanted = np.dstack([np.rint((values >> shift & top) / top * 255) for shift, top in zip(shifts, tops, strict=True)])
        np.testing.assert_array_equal(decode.decode(bmp(16, values.tobytes(), masks)), wanted[::-1])


def test_the_fourth_byte_of_a_bmp_is_alpha_only_with_a_mask() -> None:
    values = np.random.default_rng(6).integers(0, 256, (36, 48, 4), dtype=np.uint8)
    colours = (0xFF0000, 0xFF00, 0xFF)
    for masks, head, has_alpha in (((), 40, False), (colours, 40, False), ((*colours, 0), 108, False),
                                   ((*colours, 0xFF000000), 108, True)):  # fmt: skip
        shown = values[::-1, :, (2, 1, 0, 3)]
        wanted = over_white(shown) if has_alpha else shown[..., :3]
        np.testing.assert_array_equal(decode.decode(bmp(32, values.tobytes(), masks, head)), wanted)
    for masks in ((0xFF, 0xFF00, 0xFF0000), (0x3FF00000, 0xFFC00, 0x3FF)):
        with pytest.raises(ImageError, match="unusual colour masks") as caught:
            decode.decode(bmp(32, values.tobytes(), masks))
        assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("top", [1, 15, 100, 255, 256, 1023, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_pnm_is_scaled_by_its_declared_maximum(kind: str, top: int) -> None:
    channels = 3 if kind in ("P3", "P6") else 1
    values = np.random.default_rng(top).integers(0, top + 1, (7, 5, channels))
    values[0, 0] = top
    head = f"{kind}\n# made by hand\n5 7\n{top}\n".encode()
    if kind in ("P2", "P3"):
        body = " ".join(map(str, values.ravel())).encode()  # without a final newline
    else:
        body = values.astype("u1" if top < 256 else ">u2").tobytes()
    wanted = np.floor(values / top * 255 + 0.5) + np.zeros(3)
    np.testing.assert_array_equal(decode.decode(head + body), wanted)
    with pytest.raises(ImageError, match="damaged"):
        decode.decode(head + body[: len(body) // 2])


def test_plain_pnm_in_threads_does_not_change_warning_filters() -> None:
    """Warning filters belong to the process, so a thread must not set and restore them."""
    data = b"P2 100 100 255\n" + b" ".join(b"%d" % (number % 256) for number in range(10_000))
    before = list(warnings.filters)
    with ThreadPoolExecutor(6) as pool:
        for image in pool.map(decode.decode, [data] * 200):
            assert image.shape == (100, 100, 3)
    assert warnings.filters == before


def test_plain_pnm_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(7).integers(0, 256, (30, 40))
    data = b"P2 40 30 255\n" + b"\n".join(" ".join(map(str, row)).encode() for row in values) + b"\n"
    for size in (4, 5, 64, 1000):
        monkeypatch.setattr(pnm, "_PLAIN", size)
        np.testing.assert_array_equal(decode.decode(data)[..., 0], values)
    for wrong in (data[:-6], data.replace(b" ", b" x", 9), data.replace(b" ", b" -", 9), data.replace(b" ", b" 99999 ", 9)):
        with pytest.raises(ImageError, match="damaged"):
            decode.decode(wrong)


@pytest.mark.parametrize(("form", "options"), [*LOSSLESS, *LOSSY, ("GIF", {})])
def test_truncated_files_are_refused(form: str, options: dict) -> None:
    data = encoded(photo(6), form, **options)
    for length in {1, 10, 40, len(data) // 3, len(data) // 2, len(data) * 9 // 10, len(data) - 20}:
        with pytest.raises(ImageError):
            decode.decode(data[:length])


def test_a_flipped_bit_in_a_png_is_damage() -> None:
    data = bytearray(encoded(photo(7), "PNG"))
    data[len(data) // 2] ^= 0x40
    with pytest.raises(ImageError) as caught:
        decode.decode(bytes(data))
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize("length", [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"])
@pytest.mark.parametrize("name", [b"tEXt", b"IDAT", b"IEND"])
def test_no_memory_is_allocated_for_a_declared_png_chunk(name: bytes, length: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV allocates the 2 or 4 GB before it checks the size of the file, so it must not be called."""
    data = encoded(photo(7), "PNG")
    monkeypatch.setattr(decode.cv2, "imdecodeWithMetadata", None)
    with pytest.raises(ImageError, match="cannot be decoded to the end"):
        decode.decode(data[:33] + length + name + data[33:])


def test_a_jpeg_with_fewer_bits_than_blocks_is_damaged() -> None:
    whole = bytearray(encoded(photo(7)))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", 2000, 65500)
    with pytest.raises(ImageError, match="damaged"):
        decode.decode(bytes(whole))
    plain = encoded(Image.new("L", (4000, 3000), 128), optimize=True, progressive=True)  # the smallest possible number of bits
    assert decode.decode(plain).shape == (3000, 4000, 3)


def test_a_jpeg_2000_with_missing_tiles_is_damaged() -> None:
    whole = encoded(photo(7), "JPEG2000", tile_size=(16, 16))
    np.testing.assert_array_equal(decode.decode(whole), np.asarray(photo(7)))
    ends = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\x90"]
    assert len(ends) == 12
    for at in ends:
        with pytest.raises(ImageError):
            decode.decode(whole[:at] + b"\xff\xd9")


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    with pytest.raises(ImageError, match="20000 x 20000 pixels, more than the limit of 134 megapixels") as caught:
        header.header(bomb())
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"\n <html>", "HTML page"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04 ...........", "ZIP"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "video"),
        (b"remember the milk", "not an image"),
        (b"BMW is a car", "not an image"),
    ],
)
def test_files_that_are_no_images_are_named(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        decode.read(write(tmp_path / "x.jpg", content))
    assert caught.value.reason == "not-an-image"


def test_paths_that_are_no_regular_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        decode.read(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="a folder"):
        decode.read(tmp_path)
    with pytest.raises(ImageError, match="zero bytes"):
        decode.read(write(tmp_path / "empty.jpg", b""))
    with pytest.raises(ImageError, match="no such file"):
        decode.read(tmp_path / "nul\0byte.jpg")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    with server, pytest.raises(ImageError, match="not a regular file"):
        decode.read(tmp_path / "s")


def test_every_format_is_recognised_by_its_bytes() -> None:
    names = {"JPEG2000": "JPEG 2000", "PPM": "PNM"}
    for form, options in [*LOSSLESS, *LOSSY, ("GIF", {})]:
        data = encoded(photo(8), form, **options)
        head = header.header(data)
        assert head == header.Header(names.get(form, form), 60, 40)
        assert filetypes.sniff(data[:32]) == names.get(form, form)


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
                    assert decode.decode(bytes(data)).ndim == 3
                except ImageError as error:
                    assert str(error)


# -- the preprocessing ---------------------------------------------------------------------------------------------------------


def test_shrinking_is_area_averaging() -> None:
    """Each block of 4 x 4 has one bright pixel in its corner. Averaging includes it; interpolation at the centre does not."""
    dots = np.zeros((64, 64, 3), np.uint8)
    dots[::4, ::4] = 160
    np.testing.assert_array_equal(preprocess.apply(Preprocessing(16, 16), dots), np.full((16, 16, 3), 10))


def test_one_side_shrinks_and_the_other_grows() -> None:
    stripes = np.zeros((4, 64, 3), np.uint8)
    stripes[:, ::4] = 160
    np.testing.assert_array_equal(preprocess.apply(Preprocessing(16, 16), stripes), np.full((16, 16, 3), 40))


def test_an_image_of_the_right_size_is_unchanged() -> None:
    image = np.asarray(photo(10, 24, 24))
    for aspect in ("squash", "crop", "pad"):
        np.testing.assert_array_equal(preprocess.apply(Preprocessing(24, 24, aspect), image), image)


def test_crop_keeps_the_centre_and_pad_keeps_everything() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = 10, 20, 30
    np.testing.assert_array_equal(preprocess.apply(Preprocessing(10, 10, "crop"), wide), np.full((10, 10, 3), 20))
    padded = preprocess.apply(Preprocessing(30, 30, "pad"), wide)
    np.testing.assert_array_equal(padded[10:20], wide)
    assert (padded[:10] == 128).all()
    assert (padded[20:] == 128).all()


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7), (40, 40)])
def test_images_of_any_size_are_preprocessed(aspect: str, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    shaped = preprocess.apply(Preprocessing(20, 28, aspect), image)
    assert shaped.shape == (20, 28, 3)
    assert set(np.unique(shaped)) <= {77, 128}


def test_the_hash_of_a_preprocessing_changes_with_every_field() -> None:
    hashes = {Preprocessing(20, 28).hash, Preprocessing(28, 20).hash, Preprocessing(20, 28, "pad").hash}
    for name in ("kernel", "colour", "decoder"):  # fields with a single allowed value
        object.__setattr__(other := Preprocessing(20, 28), name, "other")
        hashes.add(other.hash)
    assert len(hashes) == 6
    assert Preprocessing(20, 28).hash == Preprocessing(height=20, width=28, aspect="squash").hash


def test_encode_is_lossless() -> None:
    image = np.asarray(photo(11, 31, 17))
    for extension in (".bmp", ".png"):
        np.testing.assert_array_equal(decode.decode(preprocess.encode(image, extension)), image)


def test_a_bare_jpeg_2000_codestream_decodes() -> None:
    data = encoded(photo(12), "JPEG2000")
    codestream = data[data.index(b"\xff\x4f\xff\x51") :]
    assert header.header(codestream) == header.Header("JPEG 2000", 60, 40)
    np.testing.assert_array_equal(decode.decode(codestream), np.asarray(photo(12)))


def test_a_bmp_of_os_2_decodes() -> None:
    pixels = np.asarray(photo(12))
    head = b"BM" + struct.pack("<IHHIIHHHH", 26 + pixels.size, 0, 0, 26, 12, 60, 40, 1, 24)
    np.testing.assert_array_equal(decode.decode(head + pixels[::-1, :, ::-1].tobytes()), pixels)


def test_a_very_long_number_takes_little_time() -> None:
    """The PNM parser of imagesize copies all digits for each new one, which takes half a minute for a megabyte."""
    began = time.monotonic()
    with pytest.raises(ImageError, match="damaged PNM"):
        header.header(b"P6 " + b"9" * 1_000_000)
    assert time.monotonic() - began < 3


def test_png_with_trailing_text_chunk_still_decodes() -> None:
    data = encoded(photo(12), "PNG")
    with_text = data[:33] + png_chunk(b"tEXt", b"Comment\0hello") + data[33:]
    np.testing.assert_array_equal(decode.decode(with_text), np.asarray(photo(12)))
