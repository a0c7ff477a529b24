"""Where imgclf keeps its own files: names and places, without touching the disk."""

import os
import sys
from pathlib import Path

StrPath = str | os.PathLike[str]
STATE_NAME = ".imgclf"


def home() -> Path | None:
    """The home folder; None where there is none, as for an unknown user in a container."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def cache_folder() -> Path:
    """The user's cache folder for imgclf (not created here)."""
    import tempfile  # here: `imgclf --help` reads this module and should not wait for it

    own = home() or Path(tempfile.gettempdir())
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or own / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = own / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or own / ".cache")
    return base / "imgclf"


def root_of(path: Path) -> Path | None:
    """The folder below which imgclf follows no link on the way to `path`; None if `path` is a place that the user named.

    For `DATA/.imgclf/...` it is DATA, for the state of read-only data folders the user's cache.
    """
    for place in (path, *path.parents):
        if place.name == STATE_NAME:
            return place.parent
    cache = cache_folder()
    return cache if path.is_relative_to(cache / "data") else None
