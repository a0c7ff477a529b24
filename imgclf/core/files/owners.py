"""Name the owner of a file or folder of imgclf that this user may not open, and the command that opens it."""

import os
import shlex
import stat
from pathlib import Path

from imgclf.core.files.paths import STATE_NAME


def closed(path: Path) -> str:
    """Return a message if another user owns a path below `.imgclf` and this user has no access; "" otherwise.

    New files get the permissions of the data folder. Such a file was created before the folder was shared, or not by imgclf.
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
        group = "where GROUP is a group that you are both in"
        return f"{place} belongs to {owner}, and you have no access; ask {owner} to run `{command}`, {group}"
    return f"{place} belongs to {owner}, and you have no access; ask {owner} to run `{command}`"


def name_of(user: int) -> str:
    import pwd  # here, because Windows does not have it

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
