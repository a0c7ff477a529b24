"""Groups that the user names: images that stay in one subset of a split."""

import re
from collections.abc import Sequence
from pathlib import Path

from imgclf.core import csv_files, names
from imgclf.core.config import SplitConfig
from imgclf.core.errors import ImgclfError, UsageError


def keys_by_regex(paths: Sequence[str], pattern: str) -> dict[str, str]:
    """The captured text of each path in which `pattern` is found; raises UsageError for a pattern that cannot serve."""
    try:
        compiled = re.compile(names.nfc(pattern))
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise UsageError(
            f"--group-by {pattern!r} captures nothing; put what names the group in brackets, as in 'patient([0-9]+)'"
        )
    found = {path: compiled.search(names.nfc(path)) for path in paths}
    keys = {path: "/".join(part or "" for part in match.groups()) for path, match in found.items() if match}
    if not keys:
        raise UsageError(f"--group-by {pattern!r} is found in none of the {len(paths)} paths, such as {paths[0]!r}")
    return keys


def keys_from_file(file: Path, paths: Sequence[str]) -> dict[str, str]:
    """Groups by path from a CSV with the columns path and group; raises ImgclfError.

    paths: of the data folder. The file may use another Unicode form.
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
    """The user's groups by path, and a note on what they leave out."""
    if config.group_by and config.groups:
        raise UsageError("--group-by and --groups exclude each other")
    if config.group_by:
        keys = keys_by_regex(paths, config.group_by)
    elif config.groups:
        keys = keys_from_file(Path(config.groups), paths)
        if not set(keys) & set(paths):
            shown = f"none of its paths, such as {min(keys)!r}, is in the data folder" if keys else "it names no group"
            raise ImgclfError(
                f"{config.groups}: {shown}; paths look like {paths[0]!r}{csv_files.not_utf8(min(keys, default=''))}"
            )
    else:
        return {}, []
    alone = sum(1 for path in paths if path not in keys)
    count = len({keys[path] for path in paths if path in keys})
    notes = [f"groups as asked for: {count}" + (f"; images in none of them: {alone}" if alone else "")]
    if strangers := sorted(set(keys) - set(paths)):
        notes.append(f"rows of {config.groups} that match no usable image: {len(strangers):,}, first {strangers[0]!r}")
    return keys, notes
