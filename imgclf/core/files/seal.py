"""Sign plans of moves, to recognise the plans that this user made on this machine.

The key is a file in the user's cache folder, and it never leaves this folder. Without a key (the home folder cannot be written,
or the cache was emptied), every plan counts as a plan by someone else: imgclf reports it and runs it only on request.
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
    """Return the content of a plan with its author and a seal, which is valid only for this folder."""
    signed = {**content, "by": _author()}
    return {**signed, "seal": _seal(folder, signed)}


def is_own(folder: Path, content: Mapping[str, Any]) -> bool:
    """Return whether this user wrote the plan on this machine for this folder."""
    signed = {key: value for key, value in content.items() if key != "seal"}
    try:
        own = _seal(folder, signed)
    except RecursionError:  # a plan of deeply nested lists
        return False
    given = str(content.get("seal", "")).encode("utf-8", "surrogatepass")
    return bool(own) and hmac.compare_digest(own.encode(), given)


def author(content: Mapping[str, Any]) -> str:
    """Return the declared author of a plan, which may be false, in at most 80 printable characters."""
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
    # Identify the folder by its inode and not by its path, so that the seal stays valid when the folder is renamed.
    message = json.dumps([os.stat(folder).st_ino, content], sort_keys=True).encode("ascii")
    return hmac.new(key, message, hashlib.sha256).hexdigest() if key else ""


@functools.cache
def _key(cache: Path) -> bytes:
    """Return the user's key, and create it if missing; empty if it can be neither read nor created."""
    with contextlib.suppress(OSError), contained.at(cache, make=True) as folder:
        with contextlib.suppress(FileNotFoundError):
            key = folder.read("key", _BYTES)
            return key if len(key) == _BYTES else b""
        # Write it under a temporary name first: another command must never read half a key.
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
