"""Refuse uploaded images that would take a thread much longer than a second to decode.

A thread cannot be stopped. So the header of an image limits the work before it starts: on one core of a server, the slowest
accepted images take 1.5 s. Decoding in processes, which can be stopped, would take 60 MB more per core.
"""

from imgclf.core.errors import ImageError
from imgclf.images import header
from imgclf.serve import bodies

MAX_PIXELS = 1 << 26  # of one image: 67 megapixels, 200 MB of RGB per thread
_LONG = 1 << 23  # pixels; 8 megapixels take 0.05 to 0.2 s
_SCANS = 16  # of a progressive JPEG with MAX_PIXELS, because each scan decodes all pixels again; more for smaller ones
_AVIF = 3  # decoding time of a pixel, relative to PNG
_JPEG_2000 = 8  # decoding time of a byte, relative to a pixel of PNG


def checked(content: memoryview) -> tuple[bytes, str, bool]:
    """Return an image's bytes, the reason not to decode it (or empty), and whether decoding takes long."""
    if len(content) > bodies.MAX_FILE:
        return b"", f"{len(content):,} bytes, more than the limit of {bodies.MAX_FILE:,}", False
    data = bytes(content)
    try:
        head = header.header(data)
    except ImageError:
        return data, "", False  # the decoder reports the same error
    if problem := _problem(head, data):
        return b"", problem, False
    return data, "", head.width * head.height > _LONG or head.format in ("AVIF", "JPEG 2000")


def _problem(head: header.Header, data: bytes) -> str:
    pixels, size = head.width * head.height, f"{head.width} x {head.height} pixels"
    most = MAX_PIXELS // _AVIF if head.format == "AVIF" else MAX_PIXELS
    if pixels > most:
        return f"{size}, more than the limit of {most // 1_000_000} megapixels"
    if head.format == "JPEG" and (scans := data.count(b"\xff\xda")) * pixels > _SCANS * MAX_PIXELS:
        return (
            f"{size} in {scans:,} scans, more than the limit of {_SCANS * MAX_PIXELS // pixels:,}; save it as a baseline JPEG"
        )
    if head.format == "JPEG 2000" and len(data) > MAX_PIXELS // _JPEG_2000:
        return f"a JPEG 2000 of {len(data):,} bytes, more than the limit of {MAX_PIXELS // _JPEG_2000:,}; save it as a JPEG"
    return ""
