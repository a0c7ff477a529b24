"""THE dataset loader: a folder of pictures becomes samples, split parts, prepared pixels and training batches.

`scan` lists every file and says what it is; `index` keeps the pictures; a split manifest divides them; `prepare` decodes each
once at the model's size; `batches` feeds them to Keras through `keras.utils.image_dataset_from_directory`.
"""

import dataclasses
import hashlib
import os
import random
import shutil
import stat
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf.base import journal, table
from imgclf.base.config import PARTS, Part, Recipe
from imgclf.base.errors import ImageError, ImgclfError
from imgclf.base.folders import STATE_NAME, check_data_folder, is_inside, state_folder
from imgclf.base.parallel import ordered_map
from imgclf.pixels import augment, images

if TYPE_CHECKING:
    import tensorflow as tf

PART_NAMES: dict[str, Part] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LARGEST_AUTO_SIZE = 128  # pixels a side
LITTER = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}  # what Windows and macOS leave in folders of pictures

Progress = Callable[[int, int], object]  # (done, total)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture: its path relative to the data folder (forward slashes), and its class name."""

    path: str
    label: str | None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Sorted samples under one root, and the sorted class names that give each its number."""

    root: Path
    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Pictures a class, every class named, in class order."""
        counts = dict.fromkeys(self.class_names, 0)
        for sample in self.samples:
            if sample.label is not None:
                counts[sample.label] += 1
        return counts

    def subset(self, paths: Iterable[str]) -> "Dataset":
        """The samples whose paths are given; the class names stay."""
        kept = set(paths)
        return dataclasses.replace(self, samples=tuple(s for s in self.samples if s.path in kept))


@dataclasses.dataclass(frozen=True)
class Found:
    """One file of a data folder: its class and part as the folders say, or the rule by which it is ignored."""

    path: str
    label: str | None
    part: Part | None
    ignored: str = ""


# -- what is in the folder --------------------------------------------------------------------------------------------------


def scan(root: Path) -> list[Found]:
    """Every file under a data folder, sorted by path; imgclf's own `.imgclf` is left out. Raises ImgclfError."""
    folders, loose = _top_level(root)
    parts = part_folders(root)
    found = [Found(name, None, None, _litter(name) or "not in a class folder") for name in loose]
    for name in folders:
        if _is_hidden(name):
            found += [Found(path, None, None, "in a hidden folder") for path in _walk(root, name)]
        elif name in parts:
            inner_folders, inner_loose = _top_level(root / name)
            found += [
                Found(f"{name}/{file}", None, parts[name], _litter(file) or "not in a class folder") for file in inner_loose
            ]
            for label in inner_folders:
                found += _class_files(root, f"{name}/{label}", label, parts[name])
        else:
            found += _class_files(root, name, name, None)
    return sorted(found, key=lambda file: file.path)


def part_folders(root: Path) -> dict[str, Part]:
    """The train, validation and test folders of a data folder that is already split, by name; empty if it is not."""
    names = [name for name in _top_level(root)[0] if not _is_hidden(name)]
    parts = {name: PART_NAMES[name.lower()] for name in names if name.lower() in PART_NAMES}
    if "train" not in parts.values() or len(parts) < 2:
        return {}
    others = [name for name in names if name not in parts]
    if others:
        if all(any(not _is_hidden(inner) for inner in _top_level(root / name)[0]) for name in parts):
            raise ImgclfError(
                f"{root}: {', '.join(sorted(parts))} look like the parts of a split, and {', '.join(others[:3])} beside them "
                "do not; move one or the other away"
            )
        return {}
    if not any(_top_level(root / name)[0] for name in parts):
        raise ImgclfError(
            f"{root}: {', '.join(sorted(parts))} hold no class folders; expected {root / names[0]}/<class>/<image>"
        )
    for part in PARTS:
        same = sorted(name for name in parts if parts[name] == part)
        if len(same) > 1:
            raise ImgclfError(f"{root}: {' and '.join(same)} are the same part of a split; keep one of them")
    return parts


def _class_files(root: Path, folder: str, label: str, part: Part | None) -> list[Found]:
    if _is_hidden(label):
        return [Found(path, None, part, "in a hidden folder") for path in _walk(root, folder)]
    _check_class_name(root / folder, label)
    return [
        Found(path, label, part, "in a hidden folder" if _hidden(path) else _litter(path.rsplit("/", 1)[-1]))
        for path in _walk(root, folder)
    ]


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".") or folder == "__MACOSX"


def _hidden(path: str) -> bool:
    return any(_is_hidden(piece) for piece in path.split("/")[:-1])


def _litter(name: str) -> str:
    if name.lower() in LITTER:
        return "a system file"
    return "a hidden file" if name.startswith(".") else ""


def _check_class_name(folder: Path, label: str) -> None:
    if not label.isprintable() or label != label.strip():
        shown = ascii(label)
        raise ImgclfError(
            f"{folder.parent}: the class folder {shown} has a name with control characters, undecodable bytes or spaces at "
            "its ends; rename the folder"
        )


def _top_level(root: Path) -> tuple[list[str], list[str]]:
    """Sorted names of (folders, other entries) directly in a folder, `.imgclf` left out."""
    check_data_folder(root)
    folders: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.name != STATE_NAME:
                    (folders if _is_folder(entry) else others).append(entry.name)
    except OSError as error:
        raise ImgclfError(f"{root}: cannot be listed: {error.strerror}") from error
    return sorted(folders), sorted(others)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Paths of all files below a folder; linked folders are followed, each real folder once, so that no loop holds us."""
    seen: set[tuple[int, int]] = set()
    stack = [folder]
    while stack:
        here = stack.pop()
        try:
            status = os.stat(root / here)
        except FileNotFoundError:  # it went away while we looked
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders, files = _top_level(root / here)
        stack += [f"{here}/{name}" for name in folders]
        yield from (f"{here}/{name}" for name in files)


def index(root: Path, *, minimum_classes: int = 1) -> tuple[Dataset, list[tuple[str, str]]]:
    """The pictures under a data folder, and the (path, reason) of every file in a class folder that is none.

    A file is a picture when its first bytes say so, whatever its name; whether it decodes is found out later.
    Raises ImgclfError for a folder without class folders, with fewer than `minimum_classes`, or with an empty class.
    """
    files = [file for file in scan(root) if file.label is not None and not file.ignored]
    names = class_folders(root)
    if not names:
        here = next((path for path in sorted(root.iterdir()) if path.is_file() and not path.name.startswith(".")), None)
        holds = f"it holds files such as {here.name} directly" if here else "it is empty"
        raise ImgclfError(f"{root}: no class folders; {holds}. Expected {root}/<class>/<image>, one folder per class")
    if len(names) < minimum_classes:
        raise ImgclfError(f"{root}: one class only ({names[0]}); a classifier needs two or more class folders")
    samples, left_out = [], []
    for file, problem in zip(files, ordered_map(lambda file: _peek(root / file.path), files), strict=True):
        if problem:
            left_out.append((file.path, problem))
        else:
            samples.append(Sample(file.path, file.label))
    dataset = Dataset(root, tuple(samples), tuple(names))
    for name, count in dataset.counts().items():
        if count == 0:
            raise ImgclfError(f"{root}: the class folder {name} has no images; add some, or remove the folder")
    return dataset, left_out


def class_folders(root: Path) -> list[str]:
    """Sorted class names: the folders under the root, or under its train, validation and test folders."""
    parts = part_folders(root)
    names = {name for part in parts for name in _top_level(root / part)[0]} if parts else set(_top_level(root)[0])
    return sorted(name for name in names if not _is_hidden(name))


def _peek(path: Path) -> str:
    """ "" if a file begins like a picture, else the reason."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "not a regular file"
        with open(path, "rb") as file:
            head = file.read(32)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not head:
        return "zero bytes"
    return "" if images.sniff(head) else "not an image"


# -- content hashes ---------------------------------------------------------------------------------------------------------


def content_hashes(root: Path, paths: Sequence[str], progress: Progress | None = None) -> dict[str, str]:
    """SHA-256 of each file, by path; unreadable files are left out.

    Known hashes are kept with what the file system says of each file, so that an unchanged one is read only once.
    """
    cache_file = state_folder(root) / "hashes.csv"
    cache = _read_hashes(cache_file)

    def one(path: str) -> tuple[str, tuple[str, str]] | None:
        try:
            status = os.stat(root / path)
            # Inode and change time too: two files that swap their names keep size and modification time.
            key = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
            known = cache.get(path)
            if known and known[0] == key:
                return path, known
            with open(root / path, "rb") as file:
                return path, (key, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            return None

    fresh: dict[str, tuple[str, str]] = {}
    for done, result in enumerate(ordered_map(one, paths), 1):
        if result:
            fresh[result[0]] = result[1]
        if progress:
            progress(done, len(paths))
    merged = {**cache, **fresh}
    if merged != cache:
        journal.write_atomic(cache_file, "".join(table.line((path, *merged[path])) for path in sorted(merged)))
    return {path: values[1] for path, values in fresh.items()}


def _read_hashes(cache_file: Path) -> dict[str, tuple[str, str]]:
    try:
        content = cache_file.read_bytes()
    except OSError:
        return {}
    try:
        return {row[0]: (row[1], row[2]) for _number, row in table.rows(content) if len(row) == 3}
    except ValueError:  # damaged: every file is read once more
        return {}


# -- the split manifest -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a split manifest. group: files with the same group are never put into different parts."""

    path: str
    label: str
    split: Part
    group: str
    sha256: str


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Which picture is in which part, sorted by path."""

    rows: tuple[Row, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({row.label for row in self.rows}))

    @property
    def hash(self) -> str:
        """Changes with any path, label, part or content."""
        return hashlib.sha256(self.to_csv().encode("utf-8", "surrogateescape")).hexdigest()[:12]

    @property
    def fingerprint(self) -> str:
        """Of the labelled contents alone, whatever their names and parts."""
        lines = sorted(f"{row.label}\0{row.sha256}" for row in self.rows)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def part(self, root: Path, part: Part) -> Dataset:
        """One part as a Dataset; the class names are those of the whole manifest."""
        samples = tuple(Sample(row.path, row.label) for row in self.rows if row.split == part)
        return Dataset(root, samples, self.class_names)

    def counts(self) -> dict[str, dict[Part, int]]:
        """Pictures by class and part."""
        counts: dict[str, dict[Part, int]] = {name: dict.fromkeys(PARTS, 0) for name in self.class_names}
        for row in self.rows:
            counts[row.label][row.split] += 1
        return counts

    def to_csv(self) -> str:
        """The file's text: a header, then a row a picture."""
        lines = [COLUMNS, *((row.path, row.label, row.split, row.group, row.sha256) for row in self.rows)]
        return "".join(table.line(line) for line in lines)


def elsewhere_note(root: Path) -> list[str]:
    """A note when imgclf's own files for this data folder lie in the user's cache, because the folder is read-only."""
    state = state_folder(root)
    return [] if is_inside(state, root) else [f"{root} is read-only: imgclf keeps its own files in {state}"]


def manifest_path(root: Path) -> Path:
    """Where a data folder's split manifest lies, or would: one inside a folder that is read-only now still counts."""
    path, inside = state_folder(root) / "split.csv", root / STATE_NAME / "split.csv"
    return inside if inside.exists() and not path.exists() else path


def read_manifest(path: Path) -> Manifest:
    """Read a split manifest; raises ImgclfError naming the line that is wrong."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ImgclfError(f"{path}: no split yet; run `imgclf split` first") from error
    except OSError as error:
        raise ImgclfError(f"{path}: cannot be read: {error.strerror}") from error
    rows: dict[str, Row] = {}
    expected = f"expected {','.join(COLUMNS)} with split one of {', '.join(PARTS)}, each path once"
    remedy = "mend it, or make a new one with `imgclf split --force`"
    try:
        lines = iter(table.rows(content))
        if next(lines, (0, []))[1] != list(COLUMNS):
            raise ImgclfError(f"{path}: not a split manifest: its first line is not {','.join(COLUMNS)}")
        for number, row in lines:
            if len(row) != len(COLUMNS) or row[2] not in PARTS or not row[1] or row[0] in rows:
                raise ImgclfError(f"{path}, line {number}: {expected}; {remedy}")
            rows[row[0]] = Row(row[0], row[1], row[2], row[3], row[4])
    except ValueError as error:
        raise ImgclfError(f"{path}: {error}; {remedy}") from error
    return Manifest(tuple(rows[path] for path in sorted(rows)))


def load_parts(root: Path, manifest: Manifest) -> tuple[dict[Part, Dataset], list[str]]:
    """The parts of a manifest as datasets of the files that are still there, and a note on each change since it was made."""
    present = {file.path for file in scan(root) if file.label is not None and not file.ignored}
    known = {row.path for row in manifest.rows}
    notes = []
    gone = sorted(known - present)
    if gone:
        notes.append(f"pictures of the split that are no longer there: {_some(gone)}")
    new = [path for path in sorted(present - known) if not _peek(root / path)]
    if new:
        notes.append(f"pictures that are not in the split: {_some(new)}; `imgclf split --force` takes them in")
    hashes = content_hashes(root, sorted(known & present))
    changed = [row.path for row in manifest.rows if row.path in hashes and hashes[row.path] != row.sha256]
    if changed:
        # What they show now may be in another part: an edited copy of a test picture must not be trained on.
        notes.append(f"pictures left out because they changed since the split: {_some(changed)}; `imgclf split --force`")
    usable = present - set(changed)
    return {part: manifest.part(root, part).subset(usable) for part in PARTS}, notes


def _some(paths: Sequence[str]) -> str:
    """How many, and the first five by name."""
    return f"{len(paths)} ({', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''})"


def auto_image_size(training: Dataset, seed: int) -> int:
    """128 pixels, or fewer when the pictures are smaller: the median short side of 200 of them, in steps of 8, from 32 up."""
    drawn = random.Random(seed).sample(training.samples, min(200, len(training.samples)))
    sides = []
    for sample in drawn:
        try:
            head = images.read_header(training.root / sample.path)
        except ImageError:
            continue
        sides.append(min(head.width, head.height))
    if not sides:
        return LARGEST_AUTO_SIZE
    return max(32, min(LARGEST_AUTO_SIZE, int(statistics.median(sides)) // 8 * 8))


# -- prepared pixels --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A folder `<part>/<class>/<content hash>.bmp` at the model's size, complete and never changed once it has its name."""

    folder: Path
    recipe: Recipe
    class_names: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]  # (path, reason) of every sample without usable pixels
    made: int  # pictures decoded now; the others were there from before
    files: Mapping[Part, Mapping[str, str]]  # part -> prepared file below that part's folder -> source path


def prepare(root: Path, parts: Mapping[Part, Dataset], recipe: Recipe, progress: Progress | None = None) -> Prepared:
    """Decode every sample once into a lossless file at the model's size, on all cores.

    Pixels are stored by content (`store/`), so a new split, a renamed file or a second run decodes nothing again. The folders
    that Keras reads are hard links into that store (copies where links are not to be had), named after exactly what is in them.
    """
    base = state_folder(root) / "prepared" / recipe.hash
    store = base / "store"
    samples = [sample for part in parts.values() for sample in part.samples]
    hashes = content_hashes(root, [sample.path for sample in samples])
    size = len(images.encode(np.zeros((recipe.height, recipe.width, 3), np.uint8), ".bmp"))

    def one(sample: Sample) -> tuple[str | None, bool, str]:
        """(content hash or None, whether it was decoded now, why it cannot be used)."""
        digest = hashes.get(sample.path)
        if digest and _is_whole(_stored(store, digest), size):
            return digest, False, ""
        try:
            data = images.read(root / sample.path)
            pixels = images.apply(recipe, images.decode(data))
        except ImageError as error:
            return None, False, str(error)
        digest = hashlib.sha256(data).hexdigest()
        target = _stored(store, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not synced to disk one by one: a file cut short by a power failure is found by its size above.
        temporary = target.with_suffix(f".{os.getpid()}.{id(data)}.tmp")
        temporary.write_bytes(images.encode(pixels, ".bmp"))
        os.replace(temporary, target)
        return digest, True, ""

    usable: dict[str, str] = {}
    left_out = []
    fresh: set[str] = set()
    for done, (sample, (digest, new, reason)) in enumerate(zip(samples, ordered_map(one, samples), strict=True), 1):
        if digest is None:
            left_out.append((sample.path, reason))
        else:
            usable[sample.path] = digest
            if new:
                fresh.add(digest)
        if progress:
            progress(done, len(samples))

    files: dict[Part, dict[str, str]] = {}
    for part, dataset in parts.items():
        files[part] = {}
        for sample in dataset.samples:
            if sample.path in usable:
                files[part][_free_name(files[part], f"{sample.label}/{usable[sample.path]}")] = sample.path
    class_names = next(iter(parts.values())).class_names
    content = "\n".join(sorted(f"{part}/{name}" for part in files for name in files[part]) + list(class_names))
    folder = base / hashlib.sha256(content.encode()).hexdigest()[:12]
    if not folder.exists():
        _link_view(folder, store, files, class_names)
    elif fresh:  # a file of the store was damaged and is made anew: its other names here must follow
        for part in files:
            for name in files[part]:
                if _digest(name) in fresh:
                    temporary = folder / part / f"{name}.tmp"
                    temporary.unlink(missing_ok=True)
                    link_or_copy(_stored(store, _digest(name)), temporary)
                    os.replace(temporary, folder / part / name)
    return Prepared(folder, recipe, class_names, tuple(left_out), len(fresh), files)


def _stored(store: Path, digest: str) -> Path:
    return store / digest[:2] / f"{digest}.bmp"


def _digest(name: str) -> str:
    return name.rsplit("/", 1)[1][:64]


def _is_whole(path: Path, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


def _free_name(taken: Mapping[str, str], stem: str) -> str:
    """`stem.bmp`, or with a number behind it when the same content is there twice."""
    name, number = f"{stem}.bmp", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.bmp"
    return name


def _link_view(folder: Path, store: Path, files: Mapping[Part, Mapping[str, str]], class_names: Sequence[str]) -> None:
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for part, names in files.items():
        for label in class_names:
            (temporary / part / label).mkdir(parents=True)
        for name in names:
            source = _stored(store, _digest(name))
            link_or_copy(source, temporary / part / name)
    try:
        os.rename(temporary, folder)
    except OSError:  # another run made the same folder meanwhile
        if not folder.exists():
            raise
        shutil.rmtree(temporary, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> bool:
    """Hard-link, or copy where the file system has no links between the two; returns whether it linked."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
        return False
    return True


# -- batches ----------------------------------------------------------------------------------------------------------------


def augment_seeds(seed: int) -> int:
    """The seed of the stream of augmentation seeds that belongs to a run's seed."""
    return seed + 1


def memory_budget() -> int:
    """Bytes that may hold decoded pictures: a quarter of the memory available now, or 1 GiB where that is not told."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):
        return 1 << 30


def batches(
    prepared: Prepared, part: Part, *, batch_size: int, seed: int | None = None, augmentation: str = "none"
) -> "tf.data.Dataset":
    """One prepared part as batches of ((n, h, w, 3) uint8 RGB, labels (n, 1) for two classes, else (n, classes) one-hot).

    Read by `keras.utils.image_dataset_from_directory`, kept in memory when it fits the budget. With a seed the order is new
    every epoch and the same for the same seed; without one it is the order of the file names.
    """
    import keras
    import tensorflow as tf

    recipe = prepared.recipe
    count = len(prepared.files[part])
    data = keras.utils.image_dataset_from_directory(
        prepared.folder / part,
        label_mode="binary" if len(prepared.class_names) == 2 else "categorical",
        class_names=list(prepared.class_names),
        batch_size=None,
        image_size=(recipe.height, recipe.width),
        shuffle=False,
        verbose=False,
    )
    # Files are at the model's size already, so the loader's resize is the identity and its floats are whole numbers.
    data = data.map(lambda image, label: (tf.cast(image, tf.uint8), label), num_parallel_calls=tf.data.AUTOTUNE)
    if count * recipe.height * recipe.width * 3 <= memory_budget():
        data = data.cache()
    if seed is not None:
        data = data.shuffle(min(count, 20_000), seed=seed, reshuffle_each_iteration=True)
    if augmentation == "none" or seed is None:
        return data.batch(batch_size).prefetch(2)
    seeds = tf.data.Dataset.random(seed=augment_seeds(seed), rerandomize_each_iteration=True)

    def change(sample: "tuple[tf.Tensor, tf.Tensor]", seeds: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        pictures, labels = sample
        changed = tf.numpy_function(augment.light_batch, [pictures, seeds], tf.uint8)
        changed.set_shape(pictures.shape)
        return changed, labels

    return tf.data.Dataset.zip((data, seeds)).batch(batch_size).map(change, num_parallel_calls=2).prefetch(2)
