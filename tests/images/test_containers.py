"""Test containers: the end of an image, trailing bytes, images without their end marker, and animations."""

import contextlib
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, photo, png_chunk
from planted import apng_of_one_frame, scene

from imgclf.core.errors import ImageError
from imgclf.images import decode, header
from imgclf.images.formats import containers

FORMS = {"JPEG": {}, "PNG": {}, "GIF": {}, "BMP": {}, "WEBP": {}}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("trailing", [b"", b"x", b"garbage" * 30, b"\xff\xd9", b"\0" * 3])
def test_the_end_is_found_before_trailing_bytes(form: str, trailing: bytes) -> None:
    data = encoded(scene(1), form)
    assert containers.end(data + trailing, form) == len(data)


def test_the_end_of_unusual_jpegs() -> None:
    image = scene(2)
    thumbnail = encoded(image.resize((60, 40)))
    exif = b"Exif\0\0" + thumbnail  # a complete JPEG with its own end marker inside a segment
    for options in (
        {"progressive": True},
        {"restart_marker_blocks": 4},
        {"exif": exif},
        {"subsampling": 0},
        {"comment": b"\xff\xd9"},
    ):
        data = encoded(image, **options)
        assert containers.end(data, "JPEG") == len(data)
        assert containers.end(data + data, "JPEG") == len(data)
        assert containers.end(data[:-2], "JPEG") is None


def _fragmented(number: int) -> dict[str, tuple[str, bytes]]:
    """Return (format, content) of images with this many empty segments, chunks or blocks before the pixels or the end."""
    jpeg, png, gif = (encoded(scene(1), form) for form in ("JPEG", "PNG", "GIF"))
    text = struct.pack(">I4sI", 0, b"tEXt", zlib.crc32(b"tEXt"))
    header_end = 13 + (3 << (gif[10] & 7) + 1)
    codestream = encoded(scene(1), "JPEG2000", no_jp2=True)
    return {
        "nothing else": ("JPEG", b"\xff\xd8" + b"\xff\xe0\0\2" * number),
        "markers alone": ("JPEG", b"\xff\xd8\xff\xe0\0\2" + b"\xff\x01" * number),
        "an image behind": ("JPEG", jpeg[:2] + b"\xff\xfe\0\2" * number + jpeg[2:]),
        "no end": ("JPEG", jpeg[:2] + b"\xff\xfe\0\2" * number + jpeg[2:-2]),
        "many ends": ("JPEG", jpeg[:-2] + b"\xff\xfe\0\4\xff\xd9" * number + jpeg[-2:]),
        "chunks": ("PNG", png[:33] + text * number + png[33:]),
        "chunks without an end": ("PNG", png[:33] + text * number),
        "blocks": ("GIF", gif[:header_end] + b"\x21\xfe\0" * number + gif[header_end:]),
        "sub-blocks": ("GIF", gif[:header_end] + b"\x21\xfe" + b"\1x" * number + b"\0" + gif[header_end:]),
        "codestream": ("JPEG 2000", codestream[:51] + b"\xff\x64\0\2" * number + codestream[51:]),
        "boxes": ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + b"\0\0\0\x08free" * number),
    }


@pytest.mark.parametrize("name", _fragmented(0))
def test_many_empty_pieces_take_little_time(name: str, tmp_path: Path) -> None:
    """A parser in Python without limits takes three seconds for each 10 MB and blocks all clients of `serve`."""
    form, data = _fragmented(2_500_000)[name]
    (tmp_path / "x.jpg").write_bytes(data)
    actions = [
        lambda: header.header(data), lambda: decode.decode(data), lambda: header.read_header(tmp_path / "x.jpg"),
        lambda: containers.end(data, form), lambda: containers.is_animated(data, form),
    ]  # fmt: skip
    began = time.process_time()
    for act in actions:
        with contextlib.suppress(ImageError):
            act()
    assert time.process_time() - began < 2.5


def test_a_few_thousand_empty_pieces_are_read() -> None:
    for name, (form, data) in _fragmented(5_000).items():
        if name not in ("nothing else", "markers alone", "chunks without an end", "boxes"):
            assert header.header(data).width == scene(1).width, name
            assert decode.decode(data).shape[1] == scene(1).width, name
            assert containers.end(data, form) == (None if name in ("no end", "codestream") else len(data)), name


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG 2000"])
def test_damaged_headers_raise_no_error(form: str) -> None:
    """The end is None or a position in the data, whatever a damaged header declares."""
    data = encoded(photo(1), form.replace(" ", ""))
    for cut in range(4, 400, 3):
        for wrong in (data[:cut], data[:cut] + b"\xff" * 50, data[:cut] + b"\0" * 50):
            end = containers.end(wrong, form)
            assert end is None or 0 < end <= len(wrong)
            assert containers.is_animated(wrong, form) in (True, False)
            list(containers.completions(wrong, form))
            containers.is_incomplete(wrong, form)


@pytest.mark.parametrize(
    ("form", "options", "cuts"),
    [
        ("JPEG", {}, (1, 2)), ("JPEG", {"progressive": True}, (1, 2)), ("JPEG", {"quality": 10}, (1, 2)),
        ("JPEG", {"restart_marker_blocks": 4}, (1, 2)), ("PNG", {}, tuple(range(1, 13))), ("GIF", {}, (1,)),
    ],
)  # fmt: skip
def test_an_image_without_its_end_marker_decodes_to_the_same_pixels(
    form: str, options: dict[str, object], cuts: tuple[int, ...]
) -> None:
    for seed in range(4):
        data = encoded(scene(seed), form, **options)
        whole = decode.decode(data)
        for cut in cuts:
            np.testing.assert_array_equal(decode.decode(data[:-cut]), whole)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"quality": 10}), ("JPEG", {"restart_marker_blocks": 4}),
        ("PNG", {}), ("GIF", {}),
    ],
)  # fmt: skip
def test_an_image_with_missing_pixels_is_damaged(form: str, options: dict[str, object]) -> None:
    """Decoders of libraries invent missing pixels. The result must be the pixels of the complete image or an error."""
    for seed in range(4):
        data = encoded(scene(seed, 120, 90), form, **options)
        whole = decode.decode(data)
        for cut in (*range(3, 60), len(data) // 4, len(data) // 2):
            try:
                decoded = decode.decode(data[:-cut])
            except ImageError as error:
                assert error.reason == "damaged"
            else:
                np.testing.assert_array_equal(decoded, whole)


def test_missing_scans_are_damage() -> None:
    """OpenCV decodes a progressive JPEG that is cut between two scans without an error, but less sharp."""
    data = encoded(scene(3), progressive=True)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        table = data.rfind(b"\xff\xc4", 0, start)  # the tables of a scan precede it
        for cut in {start, table}:
            with pytest.raises(ImageError, match="damaged or truncated JPEG"):
                decode.decode(data[:cut])


def test_animations_are_recognised() -> None:
    frames = [scene(4), scene(5)]
    for form in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        assert containers.is_animated(encoded(frames[0], form, save_all=True, append_images=frames[1:]), form), form
        assert not containers.is_animated(encoded(frames[0], form), form), form
    assert not containers.is_animated(apng_of_one_frame(), "PNG")


def test_the_size_of_a_jpeg_is_that_of_the_decoder() -> None:
    """libjpeg skips bytes between segments up to the next marker and uses the first frame header."""
    whole = encoded(photo(0, 24, 16), "JPEG")
    frame = whole.index(b"\xff\xc0")
    for between in (b"\x00", b"\xff\xff", b"\xff\x00\x12", b"rubbish \xff\x00 rubbish"):
        data = whole[:frame] + between + whole[frame:]
        assert header.header(data) == header.Header("JPEG", 24, 16)
        assert decode.decode(data).shape == (16, 24, 3)
    hidden = whole[:frame] + b"\0" + encoded(photo(0, 500, 16), "JPEG")[2:] + whole[frame:]  # two frame headers
    assert header.header(hidden) == header.Header("JPEG", 500, 16)


def test_a_chunk_that_declares_too_many_bytes_takes_no_memory() -> None:
    """OpenCV allocates two gigabytes and takes ten seconds to find that a file of a hundred bytes is damaged."""
    whole = encoded(photo(0, 24, 16), "PNG")
    place = whole.index(b"IDAT") - 4
    child = (
        "import resource, sys\nfrom imgclf.core.errors import ImageError\nfrom imgclf.images import decode\n"
        "try:\n    decode.decode(sys.stdin.buffer.read())\nexcept ImageError as error:\n    print(error.reason)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(data: bytes) -> tuple[str, int]:
        done = subprocess.run([sys.executable, "-c", child], input=data, capture_output=True, check=True)
        *reason, memory = done.stdout.decode().split()
        return " ".join(reason), int(memory)

    ordinary = peak(whole)[1]
    end = b"\0\0\0\x03IEND..." + bytes(4)  # an IEND chunk with content is not the end
    for data in (
        whole[:place] + (0x7FFFFFFF).to_bytes(4, "big") + whole[place + 4 :],
        whole[:place] + end + (0x7FFFFFFF).to_bytes(4, "big") + whole[place + 4 :],
    ):
        reason, memory = peak(data)
        assert reason == "damaged"
        assert memory < 1.5 * ordinary


def test_damaged_animations_do_not_crash_the_process(tmp_path: Path) -> None:
    """OpenCV 5.0 accesses invalid memory for one in eleven of these PNG files, whose animation chunks are damaged."""
    frames = [photo(seed, 24, 16) for seed in range(3)]
    whole = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    assert np.array_equal(decode.decode(whole), np.asarray(frames[0]))  # as in a viewer without animations
    (tmp_path / "animated.png").write_bytes(whole)
    child = """
import random, sys
from pathlib import Path
from imgclf.core.errors import ImageError
from imgclf.images import decode, measurements
whole, chance = Path(sys.argv[1]).read_bytes(), random.Random(1)
decoded = 0
for _round in range(500):
    damaged = bytearray(whole)
    for _flip in range(chance.choice([1, 2, 5])):
        damaged[chance.randrange(8, len(damaged))] ^= 1 << chance.randrange(8)
    measurements.measure(bytes(damaged))
    try:
        decode.decode(bytes(damaged))
        decoded += 1
    except ImageError:
        pass
print(decoded)
"""
    done = subprocess.run([sys.executable, "-c", child, tmp_path / "animated.png"], capture_output=True, text=True)
    assert done.returncode == 0, done.returncode
    assert 0 < int(done.stdout) < 500


def test_a_jpeg_with_sampling_factors_of_zero_is_damaged() -> None:
    """Such a JPEG is refused before the number of its units is computed, which would divide by zero."""
    file = bytearray(encoded(photo(1, 64, 64), "JPEG", restart_marker_blocks=2))
    frame = file.index(b"\xff\xc0")
    for component in range(3):
        file[frame + 11 + 3 * component] = 0
    for data in (file, file[:-200]):
        with pytest.raises(ImageError, match="damaged or truncated JPEG"):
            decode.decode(bytes(data))


# -- exact bytes --------------------------------------------------------------------------------------------------------------


def frame(marker: int, width: int, height: int) -> bytes:
    """The first 15 bytes of a grey JPEG."""
    return b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"


def test_a_jpeg_has_a_bit_for_each_block_of_its_pixels() -> None:
    """15 bytes are 120 bits, of blocks of 8 x 8 in up to 4:2:0: at most 160 x 96 pixels; arithmetic coding may take fewer."""
    for marker in (0xC0, 0xC1, 0xC2):
        assert not containers.is_incomplete(frame(marker, 160, 96), "JPEG")
        assert containers.is_incomplete(frame(marker, 160, 97), "JPEG")
    for marker in (0xC3, 0xC9, 0xCA):
        assert not containers.is_incomplete(frame(marker, 65_000, 65_000), "JPEG")


def test_a_png_chunk_may_end_with_the_file() -> None:
    """The decoder reports a missing checksum by itself; only content that is missing counts."""
    head = encoded(photo(1), "PNG")[:33]
    for length, short in ((5, False), (6, True), (0, False)):
        assert containers.is_incomplete(head + struct.pack(">I", length) + b"tEXt12345", "PNG") == short
        assert not containers.is_incomplete(head + struct.pack(">I", length)[:3], "PNG")
    after = struct.pack(">I", 1 << 30) + b"tEXt"
    assert not containers.is_incomplete(head + containers.PNG_END + after, "PNG"), "behind the end nothing is read"


def test_tiles_of_a_jpeg_2000_are_counted_from_their_own_corner() -> None:
    """Four tiles of 16 x 16; the size and the corner of the tiles are those of a larger canvas."""
    data = bytearray(encoded(photo(1, 32, 32), "JPEG2000", no_jp2=True, tile_size=(16, 16)))
    tiles = [at for at in range(len(data)) if data[at : at + 4] == b"\xff\x90\0\x0a"]
    assert len(tiles) == 4
    assert not containers.is_incomplete(bytes(data), "JPEG 2000")
    moved = bytearray(data)
    struct.pack_into(">8I", moved, 8, 40, 48, 8, 16, 16, 16, 8, 16)
    assert not containers.is_incomplete(bytes(moved), "JPEG 2000")
    struct.pack_into(">8I", moved, 8, 41, 48, 8, 16, 16, 16, 8, 16)
    assert containers.is_incomplete(bytes(moved), "JPEG 2000"), "a third column of tiles"
    struct.pack_into(">8I", moved, 8, 40, 49, 8, 16, 16, 16, 8, 16)
    assert containers.is_incomplete(bytes(moved), "JPEG 2000"), "a third row"
    last = bytearray(data)
    struct.pack_into(">I", last, tiles[3] + 6, 0)
    assert not containers.is_incomplete(bytes(last), "JPEG 2000"), "the last tile may go up to the end"
    twice = bytearray(data)
    struct.pack_into(">H", twice, tiles[3] + 4, 2)
    assert containers.is_incomplete(bytes(twice), "JPEG 2000"), "a tile in two parts is one tile"


def test_an_animation_is_announced_before_the_pixels() -> None:
    whole = encoded(photo(1), "PNG")
    place = whole.index(b"IDAT") - 4
    for frames, animated in ((0, False), (1, False), (2, True), (500, True)):
        control = png_chunk(b"acTL", struct.pack(">II", frames, 0))
        assert containers.is_animated(whole[:place] + control + whole[place:], "PNG") == animated
        assert not containers.is_animated(whole[:-12] + control + whole[-12:], "PNG")


def test_a_webp_with_metadata_or_alpha_is_no_animation() -> None:
    plain = encoded(photo(1), "WEBP", exif=b"Exif\0\0x")
    assert plain[12:16] == b"VP8X"
    assert plain[20] == 8
    for flags in range(64):
        assert containers.is_animated(plain[:20] + bytes([flags]) + plain[21:], "WEBP") == bool(flags & 2)
        assert not containers.is_animated(b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0" + bytes([flags]), "WEBP")


def test_a_still_png_has_no_chunk_of_an_animation() -> None:
    """Whatever of it is left: OpenCV must not see one alone either."""
    plain = encoded(photo(1), "PNG")
    assert containers.without_animation(plain, "PNG") is plain
    assert containers.without_animation(plain + b"acTL", "GIF") == plain + b"acTL"
    control = png_chunk(b"acTL", struct.pack(">II", 2, 0))
    between = png_chunk(b"fcTL", bytes(26)), png_chunk(b"fdAT", bytes(30))
    for before in ((control,), between[:1], between[1:], (control, *between)):
        for after in ((), between, (control,)):
            data = plain[:33] + b"".join(before) + plain[33:-12] + b"".join(after) + plain[-12:]
            assert containers.without_animation(data, "PNG") == plain


def gif(screen: int | None, *palettes: int | None) -> bytes:
    """A GIF with frames of 1 x 1 pixel; a palette of n has 2 ^ (n + 1) colours, all bytes are those of a trailer."""

    def colours(size: int | None) -> tuple[int, bytes]:
        return (0, b"") if size is None else (0x80 | size, b";" * (3 << size + 1))

    flags, table = colours(screen)
    data = b"GIF89a" + struct.pack("<HHBBB", 1, 1, flags, 0, 0) + table
    for palette in palettes:
        flags, table = colours(palette)
        data += b"\x21\xf9\4" + b";" * 4 + b"\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, flags) + table + b"\2\2;;\0"
    return data + b"\x3b"


@pytest.mark.parametrize("screen", [None, 0, 3, 7])
@pytest.mark.parametrize("palette", [None, 0, 3, 7])
def test_palettes_of_a_gif_have_the_size_that_they_declare(screen: int | None, palette: int | None) -> None:
    for count in (1, 2, 3):
        data = gif(screen, *[palette] * count)
        assert containers.end(data + b"behind", "GIF") == len(data)
        assert containers.is_animated(data, "GIF") == (count > 1)
        assert containers.end(data[:-1], "GIF") is None


def test_a_png_ends_with_the_checksum_of_its_last_chunk() -> None:
    data = encoded(photo(1), "PNG")
    for cut in range(1, 13):
        assert containers.end(data[:-cut], "PNG") is None
    assert containers.end(data, "PNG") == containers.end(data + b"x" * 20, "PNG") == len(data)
    longer = data[:-12] + struct.pack(">I", 3) + b"IENDabc" + data[-4:]
    assert containers.end(longer, "PNG") == len(longer)
    assert containers.end(longer[:-1], "PNG") is None
