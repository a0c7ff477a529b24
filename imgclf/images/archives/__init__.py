"""Read images from untrusted archives, one at a time: a small archive must not cost much memory or time.

The size of the archive itself limits how much is decompressed (`Budget`), whatever its headers claim. Links and devices in an
archive are never followed, and the name of an entry is never used as a path.
"""

from collections.abc import Iterator

from imgclf.images.archives import tars, zips
from imgclf.images.archives.member import DAMAGED, Member, TooMuchError, describe

EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def members(archive: str) -> Iterator[Member]:
    """Yield the images of an archive in its order. Unreadable images are yielded with a `problem`; other files are skipped.

    An error that stops the reading is yielded last, as a member without a name.
    """
    try:
        with open(archive, "rb") as file:
            yield from (zips if archive.lower().endswith(".zip") else tars).members(file)
    except OSError as error:
        yield Member("", problem=f"cannot be read: {error.strerror or error}".lower())
    except TooMuchError as error:
        yield Member("", problem=f"not fully read: {error}")
    except DAMAGED as error:
        yield Member("", problem=f"damaged or not an archive: {describe(error)}")
