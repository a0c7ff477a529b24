"""Names and places of imgclf's own files. Nothing here accesses the disk."""

import os
import sys
from pathlib import Path

StrPath = str | os.PathLike[str]
STATE_NAME = ".imgclf"


def home() -> Path | None:
    """Return the home folder; None if there is none, for example for an unknown user in a container."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def cache_folder() -> Path:
    """Return the user's cache folder for imgclf, which may not exist."""
    import tempfile  # here, because `imgclf --help` imports this module and must start fast

    own = home() or Path(tempfile.gettempdir())
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or own / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = own / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or own / ".cache")
    return base / "imgclf"


def root_of(path: Path) -> Path | None:
    """Return the folder below which imgclf follows no links to reach `path`; None if the user chose `path`.

    It is DATA for `DATA/.imgclf/...`, and the user's cache folder for the state of read-only data folders.
    """
    for place in (path, *path.parents):
        if place.name == STATE_NAME:
            return place.parent
    cache = cache_folder()
    return cache if path.is_relative_to(cache / "data") else None
