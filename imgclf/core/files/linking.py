"""Link one file into a folder that may come from someone else, and remove the link again."""

import os

from imgclf.core.files import contained
from imgclf.core.files.contained import Folder
from imgclf.core.files.journal import Journal
from imgclf.core.files.links import LinkError
from imgclf.core.remedies import why


def link(journal: Journal, source: str, target: str) -> str:
    """Make a hard link, or a symbolic one where the disk has none or is another; returns "" or why not."""
    real = os.path.realpath(source)
    try:
        with contained.parent(journal.root, target, make=True) as (there, new), journal.place(real) as place:
            try:
                with contained.parent(*place) as (here, name):
                    here.link(name, there, new)
            except (OSError, NotImplementedError) as error:
                if isinstance(error, FileExistsError):
                    raise
                there.symlink(real, new)
    except LinkError as error:
        return error.reason
    except OSError as error:
        return why(error)
    return ""


def unlink(root: Folder, source: str, target: str) -> str:
    """Remove a link to `source`; returns "" or why not. A link whose file is gone stays, because it may be the last name."""
    path = root.path / target
    try:
        with contained.parent(root, target) as (folder, name):
            if folder.status(name) is None:
                return "no longer there" if os.path.lexists(source) else ""
            place = os.path.join(os.path.realpath(path.parent), path.name)
            try:
                is_link = os.path.samefile(source, path) and os.path.realpath(source) != place
            except OSError:
                is_link = False
            if not is_link:
                return "no longer the link that was made, or its file is gone; the link stays"
            folder.unlink(name)
    except FileNotFoundError:
        return ""
    except LinkError as error:
        return error.reason
    return ""
