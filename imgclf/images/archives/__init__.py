"""Images in archives, one after the other, of which nothing is believed: a small file must not cost much memory or time.

What is decompressed is bounded by the size of the archive itself (`Budget`), whatever its headers claim. Links and devices in
an archive are never followed, and no entry's name is ever used as a path.
"""

from collections.abc import Iterator

from imgclf.images.archives import tars, zips
from imgclf.images.archives.member import DAMAGED, Member, TooMuchError, words

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def members(archive: str) -> Iterator[Member]:
    """Yield the images of an archive in its order. Unreadable entries are yielded with their error; other files are skipped."""
    try:
        with open(archive, "rb") as file:
            yield from (zips if archive.lower().endswith(".zip") else tars).members(file)
    except OSError as error:
        yield Member("", problem=f"cannot be read: {error.strerror or error}".lower())
    except TooMuchError as error:
        yield Member("", problem=f"not read to its end: {error}")
    except DAMAGED as error:
        yield Member("", problem=f"damaged or no archive: {words(error)}")
