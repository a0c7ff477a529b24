"""Whose a file or folder of imgclf is that this user may not open, and what its owner can do about it."""

import os
import shlex
import stat
from pathlib import Path

from imgclf.core.files.paths import STATE_NAME


def closed(path: Path) -> str:
    """Who keeps a file or folder below `.imgclf` closed to this user, and the command that opens it; "" for other reasons.

    Files get the permissions of the data folder when they are made, so these were made before it was shared, or by others.
    """
    if os.name == "nt":
        return ""
    for place in (*reversed(path.parents), path):
        if STATE_NAME not in place.parts:
            continue
        try:
            status = os.stat(place)
        except OSError:
            return ""
        wanted = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
        if status.st_uid != os.geteuid() and not os.access(place, wanted):
            return _remedy(place, status)
    return ""


def _remedy(place: Path, status: os.stat_result) -> str:
    owner = name_of(status.st_uid)
    state = Path(*place.parts[: place.parts.index(STATE_NAME) + 1])
    command = f"chmod -R g+rwX {shlex.quote(str(state))}"
    if status.st_gid not in (os.getegid(), *os.getgroups()):
        command = f"chgrp -R GROUP {shlex.quote(str(state))} && {command}"
        return f"{place} belongs to {owner} and is closed to you; ask {owner} to run `{command}` with a GROUP that has you both"
    return f"{place} belongs to {owner} and is closed to you; ask {owner} to run `{command}`"


def name_of(user: int) -> str:
    import pwd  # here: Windows has none

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
