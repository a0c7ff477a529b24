"""Test the format of files by their bytes and endings: camera RAWs, formats that are not decoded, and endings to rename."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tiffs
from conftest import encoded, make_classes, photo, tree, write
from PIL import Image
from tiffs import BLACK_0, Layout

from imgclf.clean import cleaning
from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImageError
from imgclf.data import dataset
from imgclf.images import decode, header, preprocess
from imgclf.images.formats import filetypes
from imgclf.images.sources import expand


def raw(
    make: bytes = b"NIKON CORPORATION", *, order: str = "<", big: bool = False, signs: str = "cfa", start: bytes = b""
) -> bytes:
    """Return a camera RAW: an RGB thumbnail in the first directory, and sensor data in its subdirectory."""
    thumbnail = np.asarray(photo(1, 160, 120)).tobytes()
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42))
    out += struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)
    out += start.ljust(8, b"\0")
    word = "Q" if big else "I"

    def put(content: bytes) -> int:
        out.extend(bytes(-len(out) % 8))
        out.extend(content)
        return len(out) - len(content)

    def directory(*tags: tuple[int, int, int, object]) -> int:
        content = struct.pack(order + ("Q" if big else "H"), len(tags))
        for tag, kind, count, value in sorted(tags):
            code = {1: "B", 3: "H", 4: "I"}.get(kind, word)
            field = value if isinstance(value, bytes) else struct.pack(order + code, value)
            content += struct.pack(order + "HH" + word, tag, kind, count) + field.ljust(8 if big else 4, b"\0")
        return put(content + bytes(8 if big else 4))

    place, text = put(thumbnail), put(make + b"\0")
    sensor = put(np.random.default_rng(0).integers(0, 16383, (60, 80), np.uint16).tobytes())
    about = [(256, 4, 1, 80), (257, 4, 1, 60), (258, 3, 1, 16), (273, 4, 1, sensor), (277, 3, 1, 1), (278, 4, 1, 60),
             (279, 4, 1, 9600)]  # fmt: skip
    about += [(262, 3, 1, 32803 if signs == "cfa" else 1), (259, 3, 1, {"nikon": 34713, "sony": 32767}.get(signs, 1))]
    below = directory(*about)
    bits = put(struct.pack(order + "3H", 8, 8, 8))
    first = [(256, 4, 1, 160), (257, 4, 1, 120), (258, 3, 3, struct.pack(order + word, bits)), (259, 3, 1, 1), (262, 3, 1, 2),
             (271, 2, len(make) + 1, struct.pack(order + word, text)), (273, 4, 1, place), (277, 3, 1, 3), (278, 4, 1, 120),
             (279, 4, 1, len(thumbnail)), (330, 4, 1, struct.pack(order + word, below))]  # fmt: skip
    top = directory(*first, *([(50706, 1, 4, b"\1\4\0\0")] if signs == "dng" else []))
    struct.pack_into(order + word, out, 8 if big else 4, top)
    return bytes(out)


RAWS = [
    (raw(), "NEF"), (raw(order=">"), "NEF"), (raw(b"SONY"), "ARW"), (raw(b"PENTAX", order=">"), "PEF"),
    (raw(b"SAMSUNG"), "SRW"), (raw(b"NIKON CORPORATION", signs="nikon"), "NEF"), (raw(b"SONY", signs="sony"), "ARW"),
    (raw(b"Google", signs="dng"), "DNG"), (raw(b"Google", signs="dng", big=True), "DNG"),
    (raw(b"Canon", start=b"CR\x02\0"), "CR2"),
    (raw(b"unheard of"), "sensor data in a TIFF"), (b"IIU\0" + bytes(60), "RW2"), (b"IIRO" + bytes(60), "ORF"),
    (b"FUJIFILMCCD-RAW 0201" + bytes(60), "RAF"), (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "kind"), RAWS)
def test_a_raw_is_recognised_under_any_name(content: bytes, kind: str, tmp_path: Path) -> None:
    expected = f"a camera RAW image ({kind}); convert it to JPEG or TIFF, for example with darktable-cli"
    for name in ("photo", "photo.jpg", "photo.tif"):
        path = write(tmp_path / name, content)
        for read in (decode.read, header.read_header):
            with pytest.raises(ImageError) as caught:
                read(path)
            assert (caught.value.reason, str(caught.value)) == ("unsupported", expected)
    with pytest.raises(ImageError, match="a camera RAW image"):
        decode.decode(content)


def test_an_ordinary_tiff_is_no_raw_unless_its_ending_is(tmp_path: Path) -> None:
    plain, pages = encoded(photo(1), "TIFF"), encoded(photo(1), "TIFF", save_all=True, append_images=[photo(2)])
    for content in (plain, pages, encoded(photo(1), "TIFF", big_tiff=True), raw(signs="none")):
        assert filetypes.raw(io.BytesIO(content)) == ""
        assert header.header(content).format == "TIFF"
    for ending in (".NEF", ".dng", ".arw", ".3fr"):
        with pytest.raises(ImageError, match=rf"a camera RAW image \({ending[1:].upper()}\)"):
            decode.read(write(tmp_path / f"x{ending}", plain))


def test_a_make_tag_that_is_no_text_is_ignored(tmp_path: Path) -> None:
    odd = tiffs.written(Layout("u8", BLACK_0), np.zeros((8, 8, 1), np.uint8), {271: (3, (300, 400, 500))})
    assert decode.decode(odd).shape == (8, 8, 3)
    assert decode.read(write(tmp_path / "x.tif", odd)) == odd
    assert dataset._not_an_image(tmp_path / "x.tif") == ""


def tagged(*directories: tuple[bytes, int, int]) -> io.BytesIO:
    """A TIFF of directories in a row: (name of the maker, if it has one, colours, compression) of each."""
    out = bytearray(struct.pack("<2sHI", b"II", 42, 8))
    for number, (make, colours, compression) in enumerate(directories, 1):
        here = len(out)
        behind = here + 2 + 3 * 12 + 4
        maker = make + b"\0" * 8
        last = number == len(directories)
        following = 0 if last else behind + len(maker)
        out += struct.pack("<HHHII", 3, 271 if make else 305, 2, len(maker), behind)
        out += struct.pack("<HHIHHHHIHHI", 259, 3, 1, compression, 0, 262, 3, 1, colours, 0, following) + maker
    return io.BytesIO(out)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (b"NIKON CORPORATION", "NEF"), (b"SONY", "ARW"), (b"PENTAX Corporation", "PEF"), (b"RICOH IMAGING", "PEF"),
        (b"Samsung", "SRW"), (b"OLYMPUS IMAGING CORP.", "ORF"), (b"Panasonic", "RW2"), (b"Hasselblad", "3FR"),
        (b"Eastman Kodak Company", "DCR"), (b"SEIKO EPSON CORP.", "ERF"), (b"Mamiya-OP Co.,Ltd.", "MEF"), (b"Leaf", "MOS"),
        (b"Phase One A/S", "IIQ"), (b"Canon", "CR2"), (b"LEICA CAMERA AG", "RWL"), (b"", "sensor data in a TIFF"),
    ],
)  # fmt: skip
def test_sensor_data_is_named_by_the_maker_of_the_camera(make: bytes, kind: str) -> None:
    """A colour filter array, linear sensor data, or one of the compressions that only cameras write."""
    signs = [(32803, 1), (34892, 1), *((1, code) for code in (32767, 32769, 32770, 32867, 34713, 65_000, 65_535))]
    for colours, compression in signs:
        assert filetypes.raw(tagged((make, colours, compression))) == kind
        assert filetypes.raw(tagged((make, colours, compression)), ".nrw") == "NRW", "the extension says more"
    for colours, compression in ((1, 1), (2, 7), (32804, 1), (34893, 1), (1, 32768), (1, 34712), (1, 32773)):
        assert filetypes.raw(tagged((make, colours, compression))) == ""


def test_directories_of_a_raw_may_come_in_any_order() -> None:
    """The first maker counts; after a thumbnail or before it, in any of the first 32 directories."""
    plain = (b"", 2, 1)
    assert filetypes.raw(tagged((b"SONY", 2, 1), (b"NIKON", 32803, 1))) == "ARW"
    assert filetypes.raw(tagged((b"", 32803, 1), (b"SONY", 2, 1))) == "ARW"
    assert filetypes.raw(tagged(*[plain] * 31, (b"SONY", 32803, 1))) == "ARW"
    assert filetypes.raw(tagged(*[plain] * 32, (b"SONY", 32803, 1))) == ""


def test_damaged_directories_raise_no_error() -> None:
    random = np.random.default_rng(0)
    for content in (raw(), raw(big=True, signs="dng"), raw(order=">")):
        for _number in range(200):
            broken = bytearray(content[: random.integers(8, len(content))])
            for place in random.integers(4, len(broken), 20):
                broken[place] = random.integers(256)
            filetypes.raw(io.BytesIO(broken))
        loop = bytearray(raw())
        loop[-4:] = loop[4:8]  # the next directory is the first again
        assert filetypes.raw(io.BytesIO(loop)) == "NEF"


OTHERS = {
    "x.heic": (b"\0\0\0\x18ftypheim\0\0\0\0mif1heim", "a HEIC image, .* heif-convert"),
    "x.heif": (b"\0\0\0\x18ftypheis\0\0\0\0", "a HEIC image"),
    "x1.heic": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC image"),
    "x.jxl": (b"\xff\x0a\xfa\x1f", "a JPEG XL image, .* djxl"),
    "x1.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    "x.dcm": (bytes(128) + b"DICM" + bytes(60), r"a DICOM image, .* dcmj2pnm"),
    "x.psd": (b"8BPS\0\1" + bytes(60), r"a Photoshop image \(PSD\), .* ImageMagick"),
    "x.exr": (b"\x76\x2f\x31\x01" + bytes(60), "an OpenEXR image, .* ImageMagick"),
    "x.hdr": (b"#?RADIANCE\n", "a Radiance HDR image"),
    "x.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"a vector image \(SVG\), .* rsvg-convert"),
    "x1.svg": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", r"a vector image \(SVG\)"),
    "x.pcx": (encoded(photo(1), "PCX"), "a PCX image"),
    "x.tga": (encoded(photo(1), "TGA"), "a Targa image"),
    "x.ico": (encoded(photo(1, 32, 32), "ICO"), "an icon"),
    "x.dds": (encoded(photo(1), "DDS"), "a DDS texture"),
    "x.sgi": (encoded(photo(1), "SGI"), "an SGI image"),
    "x.qoi": (encoded(photo(1), "QOI"), "a QOI image"),
    "x.eps": (encoded(photo(1), "EPS"), "a vector image"),
    "x.xcf": (b"gimp xcf v011\0" + bytes(60), "a GIMP image"),
    "x.fits": (b"SIMPLE  =                    T", "a FITS image"),
    "x.pam": (b"P7\nWIDTH 3\n", "a PAM image"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_formats_that_are_not_decoded_are_named_with_a_tool(name: str, tmp_path: Path) -> None:
    content, words = OTHERS[name]
    with pytest.raises(ImageError, match=words) as caught:
        decode.read(write(tmp_path / name, content))
    assert caught.value.reason == "unsupported"


def test_clean_reports_unsupported_files_and_never_moves_them(tmp_path: Path) -> None:
    data = make_classes(tmp_path, {"a": 3, "b": 3}, size=40)
    for name, (content, _words) in OTHERS.items():
        write(data / "a" / name, content)
    for number, (content, _kind) in enumerate(RAWS):
        write(data / "b" / f"IMG_{number}{('', '.jpg', '.NEF', '.tif')[number % 4]}", content)
    before = tree(data)
    for policy in ("default", "strict"):
        result = cleaning.clean(data, policy=policy)
        found = {issue.path: issue.action for issue in result.issues if issue.check == "unsupported"}
        assert found == {path: "reported" for path in before if not path.endswith(".png")}
        assert not [issue for issue in result.issues if issue.check in ("broken", "extension")]
        assert tree(data) == before
    _samples, skipped = dataset.index(data)
    assert {path for path, _reason in skipped} == set(found)
    assert not [reason for _path, reason in skipped if reason == "not an image"]
    problems = {source.name for source in expand([str(data)]) if not source.name.endswith(".png")}
    assert problems == {str(data / path) for path in found}  # every skipped file has a reason


def mpo() -> bytes:
    buffer = io.BytesIO()
    photo(1, 90, 60).save(buffer, "MPO", save_all=True, append_images=[photo(2, 90, 60)])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("stereo.mpo", mpo()), ("stereo.JPS", encoded(photo(2, 90, 60))), ("scan.svs", encoded(photo(3, 90, 60), "TIFF")),
        ("bare.j2c", encoded(photo(4, 90, 60), "JPEG2000", no_jp2=True)),
        ("bare.jpc", encoded(photo(5, 90, 60), "JPEG2000", no_jp2=True)),
        ("many.btf", encoded(photo(6, 90, 60), "TIFF", big_tiff=True)),
    ],
)  # fmt: skip
def test_correct_endings_are_not_renamed(name: str, content: bytes, tmp_path: Path) -> None:
    data = make_classes(tmp_path, {"a": 3, "b": 3}, size=40)
    write(data / "a" / name, content)
    result = cleaning.clean(data, on={"blurry": "ignore"})
    assert [issue for issue in result.issues if issue.path == f"a/{name}"] == []
    assert (data / "a" / name).read_bytes() == content
    assert preprocess.load(Preprocessing(60, 90), data / "a" / name).shape == (60, 90, 3)


def test_an_mpo_decodes_to_its_first_image(tmp_path: Path) -> None:
    stereo = Image.open(io.BytesIO(mpo()))
    np.testing.assert_array_equal(decode.decode(mpo()), np.asarray(stereo.convert("RGB")))


@pytest.mark.parametrize(
    ("name", "action", "target"),
    [
        ("x.psd", "reported", ""), ("x.NEF", "reported", ""), ("x.dcm", "reported", ""),
        ("x.heic", "renamed", "a/x.jpg"), ("x.HEIF", "renamed", "a/x.jpg"), ("x.png", "renamed", "a/x.jpg"),
        ("x.backup", "renamed", "a/x.backup.jpg"), ("x", "renamed", "a/x.jpg"),
    ],
)  # fmt: skip
def test_a_jpeg_with_another_ending(name: str, action: str, target: str, tmp_path: Path) -> None:
    """It is renamed, unless the ending is that of an unsupported format. Phones name JPEG files .heic, so these are renamed."""
    data = make_classes(tmp_path, {"a": 3, "b": 3}, size=40)
    write(data / "a" / name, encoded(photo(9, 90, 60)))
    issues = [issue for issue in cleaning.clean(data, on={"blurry": "ignore"}).issues if issue.path == f"a/{name}"]
    assert [(one.check, one.action, one.moved_to) for one in issues] == [("extension", action, target)]


def test_each_ending_belongs_to_one_format() -> None:
    decoded = [ending for endings in filetypes.FORMATS.values() for ending in endings]
    assert len(decoded) == len(set(decoded))
    assert not set(decoded) & filetypes.OTHER_EXTENSIONS
    page = (Path(filetypes.__file__).parents[2] / "reports" / "page" / "serve.html").read_text("utf-8")
    accepted = page.split('id="files" accept="')[1].split('"')[0].split(",")
    assert set(accepted) - {"image/*"} <= filetypes.EXTENSIONS
