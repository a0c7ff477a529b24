"""Which uploaded images are decoded: none that would keep a thread for much longer than a second.

A thread cannot be ended. So the work is bounded before it begins, by what the header says: on one core of a server, the
costliest images that pass take 1.5 s. Decoding in processes that can be ended would take 60 MB more for each core.
"""

from imgclf.core.errors import ImageError
from imgclf.images import header
from imgclf.serve import bodies

MAX_PIXELS = 1 << 26  # of one image: 67 megapixels, 200 MB of RGB a thread
_LONG = 1 << 23  # pixels; 8 megapixels take 0.05 to 0.2 s
_SCANS = 16  # of a progressive JPEG of so many pixels: each goes over all of them again; of fewer pixels, more
_AVIF = 3  # times what a pixel of PNG takes
_JPEG_2000 = 8  # pixels of PNG to a byte


def checked(content: memoryview) -> tuple[bytes, str, bool]:
    """An image's bytes, why they are not decoded, if so, and whether that takes long."""
    if len(content) > bodies.MAX_FILE:
        return b"", f"{len(content):,} bytes, more than the limit of {bodies.MAX_FILE:,}", False
    data = bytes(content)
    try:
        head = header.header(data)
    except ImageError:
        return data, "", False  # the decoder will say the same
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
