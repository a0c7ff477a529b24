"""Which plans of moves this user made on this machine: they bear a seal that nobody else can make.

The key is a file of the user's cache folder that never leaves it. Without one (a home that cannot be written, a cache that was
emptied) every plan counts as someone else's: it is named, and waits until the user asks for it.
"""

import contextlib
import functools
import getpass
import hashlib
import hmac
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgclf.core.files import contained
from imgclf.core.files.paths import cache_folder

_BYTES = 32


def sealed(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a plan with its author, and with a seal for the folder that it is about."""
    signed = {**content, "by": _author()}
    return {**signed, "seal": _seal(folder, signed)}


def is_own(folder: Path, content: Mapping[str, Any]) -> bool:
    """Whether this user wrote the plan, on this machine, for this folder."""
    signed = {key: value for key, value in content.items() if key != "seal"}
    try:
        own = _seal(folder, signed)
    except RecursionError:  # a plan of lists in lists
        return False
    given = str(content.get("seal", "")).encode("utf-8", "surrogatepass")
    return bool(own) and hmac.compare_digest(own.encode(), given)


def author(content: Mapping[str, Any]) -> str:
    """Who says to have written a plan, in at most 80 printable characters."""
    text = "".join(character for character in str(content.get("by") or "") if character.isprintable())
    return text[:80] or "an unknown user"


def _author() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{name} on {platform.node() or 'an unknown machine'}"


def _seal(folder: Path, content: Mapping[str, Any]) -> str:
    key = _key(cache_folder())
    # By its number and not by its path, so that a folder that was renamed is still the same.
    message = json.dumps([os.stat(folder).st_ino, content], sort_keys=True).encode("ascii")
    return hmac.new(key, message, hashlib.sha256).hexdigest() if key else ""


@functools.cache
def _key(cache: Path) -> bytes:
    """The user's key, made if there is none; empty if it can be neither read nor made."""
    with contextlib.suppress(OSError), contained.at(cache, make=True) as folder:
        with contextlib.suppress(FileNotFoundError):
            key = folder.read("key", _BYTES)
            return key if len(key) == _BYTES else b""
        # Under another name first: a second command must never read half a key.
        name = contained.temporary_name("key")
        with open(folder.create(name), "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            file.write(os.urandom(_BYTES))
        with contextlib.suppress(FileExistsError):
            folder.link(name, folder, "key")
        folder.unlink(name)
        return folder.read("key", _BYTES)
    return b""
