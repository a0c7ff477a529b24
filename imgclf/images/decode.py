"""THE decoder, bytes to pixels. Nothing else in imgclf decodes an image.

Every image comes out as (height, width, 3) uint8 RGB: EXIF orientation applied, grey copied to three channels, palettes
expanded, CMYK converted, transparency laid over white, deeper samples scaled by the declared depth, first frame of an
animation. TIFF and PNM are read by `tiff` and `pnm`, everything else by OpenCV.
"""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImageError
from imgclf.images.formats import containers, declared, filetypes, pnm, scaling, tiff
from imgclf.images.header import Header, header, opened, refuse_raw, sniffed

cv2.setNumThreads(1)  # imgclf runs one image a core; OpenCV's own threads would only get in the way
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged files are reported by us, with their names

Image = NDArray[np.uint8]  # (height, width, 3) RGB

MAX_BYTES = 1 << 30


def read(path: Path) -> bytes:
    """An image file's bytes. Raises ImageError for what is not a regular file, unreadable, empty, no image or over 1 GiB."""
    with opened(path) as (file, size):
        data = file.read(1 << 16)
        refuse_raw(file, sniffed(data[: filetypes.HEAD], path.suffix.lower()), path.suffix.lower())
        file.seek(len(data))
        if size > MAX_BYTES:
            raise ImageError("too-large", f"{size:,} bytes, more than the limit of {MAX_BYTES:,}")
        return data + file.read() if size > len(data) else data


def decode(data: bytes, head: Header | None = None) -> Image:
    """Decode a whole image to (height, width, 3) uint8 RGB; raises ImageError. A truncated file never passes.

    One that lacks nothing but the mark at its end (JPEG, PNG, GIF) does: every pixel is there. head: its `header`, if at hand.
    """
    kind = (head or header(data)).format
    try:
        return _decode(data, kind)
    except ImageError as error:
        if error.reason != "damaged" or not containers.has_end(kind) or containers.end(data, kind) is not None:
            raise
        return _decode_without_end(data, kind, error)


def _decode_without_end(data: bytes, kind: str, error: ImageError) -> Image:
    """Decode with the end put back, if that shows that no pixel was missing; else raise the error that led here."""
    first: Image | None = None
    for whole in containers.completions(data, kind):
        try:
            decoded = _decode(whole, kind)
        except ImageError:
            raise error from None
        if first is None:
            first = decoded
        elif not np.array_equal(first, decoded):
            raise error
    if first is None:
        raise error
    return first


def _decode(data: bytes, kind: str) -> Image:
    try:
        return _pixels(data, kind)
    except MemoryError as error:
        raise ImageError("unreadable", "not enough memory to decode it") from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise ImageError("unreadable", "not enough memory to decode it") from error
        raise ImageError("damaged", f"damaged {kind}: it cannot be decoded") from error


def _pixels(data: bytes, kind: str) -> Image:
    if kind == "TIFF":
        return tiff.decode(data)
    if kind == "PNM":
        return pnm.decode(data)
    damaged = ImageError("damaged", f"damaged or truncated {kind}: it cannot be decoded to the end")
    if containers.falls_short(data, kind):
        raise damaged
    try:
        full = _full(data, kind)
    except struct.error as error:
        raise damaged from error
    buffer = np.frombuffer(containers.still(data, kind), np.uint8)
    if kind == "JPEG":  # the common case in one call: EXIF, grey and CMYK are handled by OpenCV
        image: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    else:
        image, kinds, metadata = cv2.imdecodeWithMetadata(buffer, flags=cv2.IMREAD_UNCHANGED)
        if kind == "BMP" and image is not None and image.ndim == 2:  # without this flag, OpenCV decodes OS/2 bitmaps as grey
            image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_BGR)
    if image is None or image.size == 0:
        raise damaged
    if kind == "JPEG":
        return image  # type: ignore[no-any-return]
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError("unsupported", f"{kind} with {image.dtype} samples, which is not supported; convert it to 8 bits")
    image = _to_rgb(image, data, kind, full)
    if kind in ("PNG", "WEBP"):
        exif = next((bytes(m) for k, m in zip(kinds, metadata, strict=True) if k == cv2.IMAGE_METADATA_EXIF), b"")
        return scaling.orient(image, _exif_orientation(exif))
    if kind == "AVIF":
        return _avif_orient(image, data)
    return np.ascontiguousarray(image)


def _full(data: bytes, kind: str) -> int:
    """Maximum value of samples that OpenCV decodes to more than 8 bits. Raises ImageError for layouts it decodes wrongly."""
    if kind == "AVIF":
        return (1 << declared.avif_depth(data)) - 1
    if kind == "BMP" and not declared.bmp(data).depths:
        raise ImageError("unsupported", "BMP with unusual colour masks, which is not supported; save it with 24 bits a pixel")
    if kind != "JPEG 2000":
        return 65535
    has = declared.jpeg_2000(data)
    if has.count not in (1, 3, 4) or not 8 <= has.bits <= 16 or not has.is_plain:
        depth = f"{has.bits} bits" if has.bits else "signed, uneven or subsampled samples, or with an offset"
        what = f"{has.count} bands of {depth}" if has.is_plain else "colours other than RGB and grey"
        raise ImageError("unsupported", f"JPEG 2000 of {what}, which is not supported; convert it to RGB of 8 or 16 bits")
    return (1 << has.bits) - 1


def _to_rgb(image: NDArray[Any], data: bytes, kind: str, full: int) -> NDArray[np.uint8]:
    """Convert 8- or 16-bit grey, BGR or BGRA from OpenCV to 8-bit RGB, with transparency laid over white."""
    scaled = _png_to_uint8(image, data) if kind == "PNG" else scaling.to_uint8(image, 255 if image.dtype == np.uint8 else full)
    if scaled.ndim == 2 or scaled.shape[2] == 1:
        rgb = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB), np.uint8)
        level = declared.png_transparent_grey(data) if kind == "PNG" else None
        if level is not None:  # OpenCV ignores this level and spreads 1, 2 and 4 bits over 8
            rgb[image.reshape(rgb.shape[:2]) == level * (255 // ((1 << data[24]) - 1) if data[24] < 8 else 1)] = 255
        return rgb
    if scaled.shape[2] == 3:
        rgb = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB), np.uint8)
        return _spread(rgb, declared.bmp(data).depths) if kind == "BMP" else rgb
    rgb = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_BGRA2RGB), np.uint8)
    if _has_alpha(data, kind):
        scaling.over_white(rgb, scaled[..., 3])
    return rgb


def _has_alpha(data: bytes, kind: str) -> bool:
    """Whether the fourth channel is alpha. BMP and JPEG 2000 must declare it."""
    if kind == "BMP":
        return declared.bmp(data).has_alpha
    return kind != "JPEG 2000" or declared.jpeg_2000(data).has_alpha


def _spread(rgb: NDArray[np.uint8], depths: tuple[int, ...]) -> NDArray[np.uint8]:
    """Scale 5- and 6-bit BMP colours to the full range: OpenCV only shifts them, so white would be 248 instead of 255."""
    for channel, bits in enumerate(depths):
        if bits < 8:
            rgb[..., channel] = scaling.to_uint8(rgb[..., channel] >> (8 - bits), (1 << bits) - 1)
    return rgb


def _png_to_uint8(image: NDArray[Any], data: bytes) -> NDArray[np.uint8]:
    """Scale by the declared significant bits, the upper ones of 16; the others repeat them."""
    if image.dtype == np.uint8:
        return image
    samples = image.reshape(*image.shape[:2], -1)
    scaled = scaling.to_uint8(samples, 65535)
    for place, bits in zip((0,) if image.ndim == 2 else (2, 1, 0, 3), declared.png_significant_bits(data), strict=False):
        scaled[..., place] = scaling.to_uint8(samples[..., place] >> (16 - bits), (1 << bits) - 1)
    return scaled


def _exif_orientation(exif: bytes) -> int:
    """The orientation tag (1 to 8) of an EXIF block's first directory; 1 when there is none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
        for index in range(count):
            tag, _type, _count, value = struct.unpack_from(order + "HHIH", exif, offset + 2 + 12 * index)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _avif_orient(image: NDArray[Any], data: bytes) -> Image:
    """Apply AVIF's own rotation and mirror boxes, which OpenCV leaves out (a turn to the left in steps of 90 degrees)."""
    end = 1 << 16
    turn = data.find(b"\0\0\0\x09irot", 0, end)
    if turn >= 0 and turn + 8 < len(data):
        image = np.rot90(image, data[turn + 8] & 3)
    mirror = data.find(b"\0\0\0\x09imir", 0, end)
    if mirror >= 0 and mirror + 8 < len(data):
        image = image[:, ::-1] if data[mirror + 8] & 1 else image[::-1]
    return np.ascontiguousarray(image)
