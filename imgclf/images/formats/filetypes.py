"""Recognise supported and unsupported image formats by first bytes and extension.

A magic number is not enough: many camera RAWs are TIFF containers, and TIFF readers decode only their thumbnail.
"""

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

from imgclf.core.errors import ImageError
from imgclf.images.formats import tiff_layout

HEAD = 256  # first bytes of a file that `refusal` and `other` need

# Supported formats and their valid extensions, the most common one first.
FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".jps"),  # .mpo, .jps: stereo images; the first one is a JPEG
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff", ".btf", ".tf8", ".svs", ".ndpi", ".lsm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG 2000": (".jp2", ".j2k", ".jpx", ".j2c", ".jpc", ".jpf"),
    "PNM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
EXTENSIONS = frozenset(extension for extensions in FORMATS.values() for extension in extensions)


@dataclasses.dataclass(frozen=True)
class Other:
    """An unsupported image format.

    description: with its article, for messages. tool: the target format and a tool that converts to it.
    """

    description: str
    extensions: tuple[str, ...]
    tool: str

    def refusal(self) -> str:
        """Return why a file of this format cannot be used, and how to convert it."""
        return f"{self.description}, which imgclf does not read; convert it to {self.tool}"


_MAGICK = "PNG with ImageMagick (magick FILE FILE.png)"
OTHERS: dict[str, Other] = {
    "HEIC": Other("a HEIC image", (".heic", ".heif", ".hif", ".heics", ".heifs"), "JPEG with heif-convert (libheif)"),
    "JPEG XL": Other("a JPEG XL image", (".jxl",), "PNG with djxl (libjxl)"),
    "JPEG XR": Other("a JPEG XR image", (".jxr", ".wdp", ".hdp"), "PNG with JxrDecApp (jxrlib)"),
    "DICOM": Other("a DICOM image", (".dcm", ".dicom", ".ima"), "PNG with dcmj2pnm (DCMTK)"),
    "PSD": Other("a Photoshop image (PSD)", (".psd", ".psb"), "PNG with ImageMagick (magick FILE[0] FILE.png)"),
    "XCF": Other("a GIMP image (XCF)", (".xcf",), "PNG with GIMP"),
    "EXR": Other("an OpenEXR image", (".exr",), "PNG with ImageMagick (magick FILE -auto-level FILE.png)"),
    "HDR": Other("a Radiance HDR image", (".hdr", ".rgbe"), "PNG with ImageMagick (magick FILE -auto-level FILE.png)"),
    "PFM": Other("a floating-point image (PFM)", (".pfm",), "PNG with ImageMagick (magick FILE -auto-level FILE.png)"),
    "FITS": Other("a FITS image", (".fits", ".fit", ".fts"), "PNG with ImageMagick (magick FILE -auto-level FILE.png)"),
    "NIfTI": Other("a NIfTI volume", (".nii",), "PNG slices with med2image"),
    "SVG": Other("a vector image (SVG)", (".svg",), "PNG with rsvg-convert (librsvg)"),
    "EPS": Other("a vector image (EPS or PostScript)", (".eps", ".ps"), "PNG with Ghostscript"),
    "EMF": Other("a vector image (WMF or EMF)", (".emf", ".wmf"), "PNG with Inkscape"),
    "PCX": Other("a PCX image", (".pcx",), _MAGICK),
    "Targa": Other("a Targa image (TGA)", (".tga", ".icb", ".vda", ".vst"), _MAGICK),
    "ICO": Other("an icon (ICO)", (".ico", ".cur"), _MAGICK),
    "SGI": Other("an SGI image", (".sgi", ".rgb", ".bw"), _MAGICK),
    "Sun raster": Other("a Sun raster image", (".ras", ".sun"), _MAGICK),
    "DDS": Other("a DDS texture", (".dds",), _MAGICK),
    "QOI": Other("a QOI image", (".qoi",), _MAGICK),
    "PAM": Other("a PAM image", (".pam",), _MAGICK),
    "BPG": Other("a BPG image", (".bpg",), "PNG with bpgdec"),
    "FLIF": Other("a FLIF image", (".flif",), "PNG with flif"),
    "DjVu": Other("a DjVu document", (".djvu", ".djv"), "TIFF with ddjvu (DjVuLibre)"),
}  # fmt: skip
RAW_EXTENSIONS = frozenset((
    ".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".drf", ".eip", ".erf",
    ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef",
    ".ptx", ".pxn", ".r3d", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".x3f",
))  # fmt: skip
OTHER_EXTENSIONS = frozenset(extension for kind in OTHERS.values() for extension in kind.extensions) | RAW_EXTENSIONS

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", "JPEG XL"), (0, b"\0\0\0\x0cJXL ", "JPEG XL"), (0, b"II\xbc\x01", "JPEG XR"), (128, b"DICM", "DICOM"),
    (0, b"8BPS\0", "PSD"), (0, b"gimp xcf ", "XCF"), (0, b"\x76\x2f\x31\x01", "EXR"), (0, b"#?RADIANCE", "HDR"),
    (0, b"#?RGBE", "HDR"), (0, b"PF\n", "PFM"), (0, b"Pf\n", "PFM"), (0, b"SIMPLE  =", "FITS"), (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"), (0, b"\xd7\xcd\xc6\x9a", "EMF"), (40, b" EMF", "EMF"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"), (0, b"DDS ", "DDS"), (0, b"qoif", "QOI"), (0, b"P7\n", "PAM"),
    (0, b"BPG\xfb", "BPG"), (0, b"FLIF", "FLIF"), (0, b"AT&TFORM", "DjVu"), (0, b"\x01\xda\0\1", "SGI"),
    (0, b"\x01\xda\1\1", "SGI"), (0, b"\x01\xda\1\2", "SGI"),
)  # fmt: skip
_RAW_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (8, b"CR\x02", "CR2"), (4, b"ftypcrx ", "CR3"), (6, b"HEAPCCDR", "CRW"), (0, b"IIRO", "ORF"), (0, b"IIRS", "ORF"),
    (0, b"MMOR", "ORF"), (0, b"IIU\0", "RW2"), (0, b"FUJIFILMCCD-RAW", "RAF"), (0, b"\0MRM", "MRW"), (0, b"FOVb", "X3F"),
    (8, b"IIIITMMR", "IIQ"), (8, b"IIIICwaR", "IIQ"), (0, b"ARRI\x12\x34\x56\x78", "ARI"),
)  # fmt: skip
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}


def sniff(head: bytes) -> str | None:
    """Return the supported format of a file with these first 32 bytes, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head[4:12] in (b"ftypavif", b"ftypavis") or (head[4:12] == b"ftypmif1" and b"avif" in head[16:32]):
        return "AVIF"
    if head.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):
        return "JPEG 2000"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PNM"
    return None


def refusal(head: bytes, extension: str = "") -> tuple[str, str]:
    """Return (reason for ImageError, message with the remedy) for a file in an unsupported format.

    head: the first HEAD bytes. extension: with the dot; it identifies the few formats without a magic number.
    """
    if raw := _magic(head, _RAW_MAGICS):
        return "unsupported", raw_refusal(raw)
    if kind := other(head, extension):
        return "unsupported", OTHERS[kind].refusal()
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "not-an-image", "not an image but an HTML page"
    if head.startswith(b"%PDF"):
        return "not-an-image", "not an image but a PDF; export its pages as PNG, for example with pdftoppm"
    if head.startswith(b"PK\x03\x04"):
        return "not-an-image", "not an image but a ZIP archive"
    if head[4:8] == b"ftyp":
        return "not-an-image", f"not an image but a video ({head[8:12].decode('ascii', 'replace').strip()})"
    return "not-an-image", "not an image"


def other(head: bytes, extension: str = "") -> str | None:
    """Return the unsupported image format of a file with these first HEAD bytes: a key of OTHERS, or None."""
    if found := _magic(head, _MAGICS):
        return found
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "HEIC"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype svg")) and (b"<svg" in text or extension == ".svg")):
        return "SVG"
    if head[:1] == b"\n" and head[1:2] in b"\0\2\3\4\5" and head[2:3] == b"\1" and head[3:4] in b"\1\2\4\x08" and len(head) > 3:
        return "PCX"
    if head.startswith((b"\0\0\1\0", b"\0\0\2\0")) and 0 < int.from_bytes(head[4:6], "little") < 256 and head[9:10] == b"\0":
        return "ICO"
    if extension in OTHERS["Targa"].extensions and len(head) > 17:
        is_targa = head[1] in (0, 1) and head[2] in (1, 2, 3, 9, 10, 11, 32, 33) and head[16] in (8, 15, 16, 24, 32)
        return "Targa" if is_targa else None
    if extension in OTHERS["NIfTI"].extensions and head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        return "NIfTI"
    return None


def is_image(head: bytes, extension: str) -> bool:
    """Return whether a file with these first HEAD bytes is an image, supported or not."""
    return bool(sniff(head) or _magic(head, _RAW_MAGICS) or other(head, extension))


def _magic(head: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for offset, magic, name in table if head[offset : offset + len(magic)] == magic), None)


# -- camera RAWs in TIFF containers --------------------------------------------------------------------------------------------


def raw_refusal(kind: str) -> str:
    """Return why a camera RAW cannot be used, and how to convert it."""
    return f"a camera RAW image ({kind}); convert it to JPEG or TIFF, for example with darktable-cli"


def raw(file: BinaryIO, extension: str = "") -> str:
    """Return the kind of camera RAW in a TIFF container, such as `NEF`; "" for an ordinary TIFF.

    It is a RAW if it has a RAW extension, the tag DNGVersion, sensor data (colour filter array or linear raw) in any directory,
    or a compression that only cameras use.
    """
    file.seek(0)
    if found := _magic(file.read(HEAD), _RAW_MAGICS):
        return found
    make, is_raw = "", False
    for tags in _directories(file):
        if _DNG_VERSION in tags:
            return "DNG"
        make = make or bytes(value & 255 for value in tags.get(_MAKE, ())).decode("ascii", "replace").upper()
        photometric, compression = (tags.get(tag, (-1,))[0] for tag in (tiff_layout.PHOTOMETRIC, tiff_layout.COMPRESSION))
        is_raw = is_raw or photometric in (32803, 34892) or compression in _CAMERA_COMPRESSIONS
    named = extension[1:].upper() if extension in RAW_EXTENSIONS else ""
    if is_raw:
        return named or next((kind for maker, kind in _MAKERS if maker in make), "sensor data in a TIFF")
    return named


_MAKE, _SUB_DIRECTORIES, _DNG_VERSION = 271, 330, 50706
_TAGS = {tiff_layout.PHOTOMETRIC, tiff_layout.COMPRESSION, _MAKE, _SUB_DIRECTORIES, _DNG_VERSION}
_CAMERA_COMPRESSIONS = {32767, 32769, 32770, 32867, 34713, 65000, 65535}  # Sony, Epson and Samsung, Kodak, Nikon, Kodak, Pentax
_MAKERS = (
    ("NIKON", "NEF"), ("SONY", "ARW"), ("PENTAX", "PEF"), ("RICOH", "PEF"), ("SAMSUNG", "SRW"), ("OLYMPUS", "ORF"),
    ("PANASONIC", "RW2"), ("HASSELBLAD", "3FR"), ("KODAK", "DCR"), ("EPSON", "ERF"), ("MAMIYA", "MEF"), ("LEAF", "MOS"),
    ("PHASE ONE", "IIQ"), ("CANON", "CR2"), ("LEICA", "RWL"),
)  # fmt: skip
_MAX_DIRECTORIES = 32


def _directories(file: BinaryIO) -> Iterator[tiff_layout.Tags]:
    """Yield the readable directories and subdirectories of a TIFF, each once."""
    seen: set[int] = set()
    try:
        start = tiff_layout.read_start(file)
        todo = [start.first]
        while todo and len(seen) < _MAX_DIRECTORIES:
            offset = todo.pop(0)
            if offset and offset not in seen:
                seen.add(offset)
                tags, next_offset = tiff_layout.read_directory(file, start, offset, _TAGS)
                yield tags
                todo += [*tags.get(_SUB_DIRECTORIES, ()), next_offset]
    except (ImageError, OSError):
        return


# -- extensions ----------------------------------------------------------------------------------------------------------------


def is_valid_extension(extension: str, kind: str) -> bool:
    """Return whether an extension, with its dot, is valid for a supported format."""
    return extension.lower() in FORMATS[kind]


def is_unsupported_extension(extension: str) -> bool:
    """Return whether an extension belongs to an unsupported format. Files with such an extension are never renamed.

    HEIC is an exception: phones and messengers save JPEGs with this extension, and no HEIC starts like a JPEG.
    """
    return extension.lower() in OTHER_EXTENSIONS.difference(OTHERS["HEIC"].extensions)


def without_image_extension(path: str) -> str:
    """Remove the extension of an image format. Text that only looks like an extension stays: `image 1.5 m`, `IMG.2021`."""
    stem, dot, extension = path.rpartition(".")
    known = EXTENSIONS.union(OTHERS["HEIC"].extensions)
    return stem if dot and f".{extension.lower()}" in known and not stem.endswith("/") else path
