"""Read the groups that the user defines: images of one group stay in one subset of a split."""

import re
from collections.abc import Sequence
from pathlib import Path

from imgclf.core import csv_files, names
from imgclf.core.config import SplitConfig
from imgclf.core.errors import ImgclfError, UsageError


def keys_by_regex(paths: Sequence[str], pattern: str) -> dict[str, str]:
    """Return the text that `pattern` captures in each path that it matches.

    Raises UsageError if the pattern is invalid, has no capture group, or matches no path.
    """
    try:
        compiled = re.compile(names.nfc(pattern))
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r} is not a valid regular expression: {error}") from error
    if not compiled.groups:
        raise UsageError(
            f"--group-by {pattern!r} has no capture group; put parentheses around the group's name, as in 'patient([0-9]+)'"
        )
    found = {path: compiled.search(names.nfc(path)) for path in paths}
    keys = {path: "/".join(text or "" for text in match.groups()) for path, match in found.items() if match}
    if not keys:
        raise UsageError(f"--group-by {pattern!r} matches none of the {len(paths)} paths; the first one is {paths[0]!r}")
    return keys


def keys_from_file(file: Path, paths: Sequence[str]) -> dict[str, str]:
    """Return the groups by path from a CSV file with the columns `path` and `group`.

    Paths in the file may use another Unicode form than those on disk. Raises ImgclfError if a path is in two groups.

    Args:
        paths: Paths of the images in the data folder.
    """
    keys: dict[str, str] = {}
    spelling = names.by_spelling(paths)
    known = set(paths)
    for number, row in csv_files.records(file, "path", "group"):
        path, name = row["path"], names.nfc(row["group"])
        if path not in known:
            path = spelling.get(names.nfc(path), path)
        if name and keys.setdefault(path, name) != name:
            raise ImgclfError(f"{file}, line {number}: {path} is in two groups, {keys[path]} and {name}")
    return keys


def user_groups(paths: Sequence[str], config: SplitConfig) -> tuple[dict[str, str], list[str]]:
    """Return the user's groups by path, and notes on images without a group and on rows without an image."""
    if config.group_by and config.groups:
        raise UsageError("--group-by and --groups cannot be used together; choose one")
    if config.group_by:
        keys = keys_by_regex(paths, config.group_by)
    elif config.groups:
        keys = keys_from_file(Path(config.groups), paths)
        if not set(keys) & set(paths):
            shown = f"none of its paths, such as {min(keys)!r}, is in the data folder" if keys else "the file has no groups"
            raise ImgclfError(
                f"{config.groups}: {shown}; paths must look like {paths[0]!r}{csv_files.not_utf8(min(keys, default=''))}"
            )
    else:
        return {}, []
    alone = sum(1 for path in paths if path not in keys)
    count = len({keys[path] for path in paths if path in keys})
    notes = [f"groups from --group-by or --groups: {count}" + (f"; images without a group: {alone}" if alone else "")]
    if unmatched := sorted(set(keys) - set(paths)):
        notes.append(f"rows of {config.groups} without a usable image: {len(unmatched):,}, the first is {unmatched[0]!r}")
    return keys, notes
