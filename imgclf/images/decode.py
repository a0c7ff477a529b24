"""Decode images from bytes to pixels. This is the only decoder: nothing else in imgclf decodes an image.

Every decoded image is (height, width, 3) uint8 RGB: EXIF orientation is applied, grey copied to three channels, palettes are
expanded, CMYK is converted, transparency blended with white, and deeper samples are scaled by the declared depth. Of an
animation, the first frame is decoded. `tiff` and `pnm` read TIFF and PNM; OpenCV reads the other formats.
"""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImageError
from imgclf.images.formats import containers, declared, filetypes, pnm, scaling, tiff
from imgclf.images.header import Header, detect_format, header, open_image, refuse_raw

cv2.setNumThreads(1)  # imgclf processes one image per core; more threads inside OpenCV would only slow it down
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # imgclf reports damaged files itself, with their names

Image = NDArray[np.uint8]  # (height, width, 3) RGB

MAX_BYTES = 1 << 30  # of a file


def read(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        ImageError: the file is missing, unreadable, not regular, empty, not a supported image or larger than MAX_BYTES.
    """
    with open_image(path) as (file, size):
        data = file.read(1 << 16)
        refuse_raw(file, detect_format(data[: filetypes.HEAD], path.suffix.lower()), path.suffix.lower())
        file.seek(len(data))
        if size > MAX_BYTES:
            raise ImageError("too-large", f"{size:,} bytes, more than the limit of {MAX_BYTES:,}")
        return data + file.read() if size > len(data) else data


def decode(data: bytes, head: Header | None = None) -> Image:
    """Decode a complete image to (height, width, 3) uint8 RGB. Raises ImageError for damaged, truncated or unsupported files.

    A JPEG, PNG or GIF that lacks only the mark at its end is accepted, because no pixel is missing. head: the image's `header`,
    if the caller has read it.
    """
    kind = (head or header(data)).format
    try:
        return _decode(data, kind)
    except ImageError as error:
        if error.reason != "damaged" or not containers.has_end(kind) or containers.end(data, kind) is not None:
            raise
        return _decode_with_end_restored(data, kind, error)


def _decode_with_end_restored(data: bytes, kind: str, error: ImageError) -> Image:
    """Decode with the end mark restored. Raises `error` unless the result shows that no pixel was missing."""
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
    """Decode an image that is complete with its end mark. Errors of OpenCV become ImageErrors."""
    try:
        return _pixels(data, kind)
    except MemoryError as error:
        raise ImageError("unreadable", "not enough memory to decode it") from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise ImageError("unreadable", "not enough memory to decode it") from error
        raise ImageError("damaged", f"damaged {kind}: it cannot be decoded") from error


def _pixels(data: bytes, kind: str) -> Image:
    """Decode with the decoder of the format. Raises ImageError, and cv2.error or MemoryError where OpenCV does."""
    if kind == "TIFF":
        return tiff.decode(data)
    if kind == "PNM":
        return pnm.decode(data)
    damaged = ImageError("damaged", f"damaged or truncated {kind}: it cannot be decoded to the end")
    if containers.is_incomplete(data, kind):
        raise damaged
    try:
        max_value = _max_value(data, kind)
    except struct.error as error:
        raise damaged from error
    buffer = np.frombuffer(containers.without_animation(data, kind), np.uint8)
    if kind == "JPEG":  # the most common format, in one call: OpenCV handles EXIF, grey and CMYK
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
    image = _to_rgb(image, data, kind, max_value)
    if kind in ("PNG", "WEBP"):
        exif = next((bytes(m) for k, m in zip(kinds, metadata, strict=True) if k == cv2.IMAGE_METADATA_EXIF), b"")
        return scaling.orient(image, _exif_orientation(exif))
    if kind == "AVIF":
        return _avif_orient(image, data)
    return np.ascontiguousarray(image)


def _max_value(data: bytes, kind: str) -> int:
    """Return the maximum value of samples that OpenCV decodes to more than 8 bits.

    Raises ImageError for layouts that OpenCV decodes wrongly.
    """
    if kind == "AVIF":
        return (1 << declared.avif_depth(data)) - 1
    if kind == "BMP" and not declared.bmp(data).depths:
        raise ImageError("unsupported", "BMP with unusual colour masks, which is not supported; save it with 24 bits per pixel")
    if kind != "JPEG 2000":
        return 65535
    codestream = declared.jpeg_2000(data)
    if codestream.count not in (1, 3, 4) or not 8 <= codestream.bits <= 16 or not codestream.is_plain:
        depth = f"{codestream.bits} bits" if codestream.bits else "signed, uneven or subsampled samples, or with an offset"
        what = f"{codestream.count} bands of {depth}" if codestream.is_plain else "colours other than RGB and grey"
        raise ImageError("unsupported", f"JPEG 2000 of {what}, which is not supported; convert it to RGB of 8 or 16 bits")
    return (1 << codestream.bits) - 1


def _to_rgb(image: NDArray[Any], data: bytes, kind: str, max_value: int) -> NDArray[np.uint8]:
    """Convert 8- or 16-bit grey, BGR or BGRA from OpenCV to 8-bit RGB, with transparency blended with white."""
    scaled = (
        _png_to_uint8(image, data) if kind == "PNG" else scaling.to_uint8(image, 255 if image.dtype == np.uint8 else max_value)
    )
    if scaled.ndim == 2 or scaled.shape[2] == 1:
        rgb = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB), np.uint8)
        level = declared.png_transparent_grey(data) if kind == "PNG" else None
        if level is not None:  # OpenCV ignores this level and scales 1, 2 and 4 bits to 8
            rgb[image.reshape(rgb.shape[:2]) == level * (255 // ((1 << data[24]) - 1) if data[24] < 8 else 1)] = 255
        return rgb
    if scaled.shape[2] == 3:
        rgb = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB), np.uint8)
        return _scale_bmp_colours(rgb, declared.bmp(data).depths) if kind == "BMP" else rgb
    rgb = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_BGRA2RGB), np.uint8)
    if _has_alpha(data, kind):
        scaling.over_white(rgb, scaled[..., 3])
    return rgb


def _has_alpha(data: bytes, kind: str) -> bool:
    """Return whether the fourth channel is alpha. BMP and JPEG 2000 must declare it."""
    if kind == "BMP":
        return declared.bmp(data).has_alpha
    return kind != "JPEG 2000" or declared.jpeg_2000(data).has_alpha


def _scale_bmp_colours(rgb: NDArray[np.uint8], depths: tuple[int, ...]) -> NDArray[np.uint8]:
    """Scale 5- and 6-bit BMP colours to the full range. OpenCV only shifts them: white would be 248 instead of 255."""
    for channel, bits in enumerate(depths):
        if bits < 8:
            rgb[..., channel] = scaling.to_uint8(rgb[..., channel] >> (8 - bits), (1 << bits) - 1)
    return rgb


def _png_to_uint8(image: NDArray[Any], data: bytes) -> NDArray[np.uint8]:
    """Scale 16-bit samples by their declared significant bits: the upper bits, which the lower bits repeat."""
    if image.dtype == np.uint8:
        return image
    samples = image.reshape(*image.shape[:2], -1)
    scaled = scaling.to_uint8(samples, 65535)
    for place, bits in zip((0,) if image.ndim == 2 else (2, 1, 0, 3), declared.png_significant_bits(data), strict=False):
        scaled[..., place] = scaling.to_uint8(samples[..., place] >> (16 - bits), (1 << bits) - 1)
    return scaled


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation (1 to 8) from the first directory of an EXIF block; 1 if there is none."""
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
    """Apply the rotation and mirror boxes of AVIF, which OpenCV ignores. `irot` counts counterclockwise turns of 90 degrees."""
    end = 1 << 16
    turn = data.find(b"\0\0\0\x09irot", 0, end)
    if turn >= 0 and turn + 8 < len(data):
        image = np.rot90(image, data[turn + 8] & 3)
    mirror = data.find(b"\0\0\0\x09imir", 0, end)
    if mirror >= 0 and mirror + 8 < len(data):
        image = image[:, ::-1] if data[mirror + 8] & 1 else image[::-1]
    return np.ascontiguousarray(image)
