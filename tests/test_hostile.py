"""Hostile files through every command: each is used or named with a reason, nothing is lost, and nobody crashes or waits."""

import collections
import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encoded, make_classes, photo, write
from hostile import CLASSES, Hostile, Planted, files, plant, recorded
from PIL import Image, ImageOps
from served import Server, served

from imgclf.clean import cleaning, writing
from imgclf.core import csv_files
from imgclf.core.errors import ImageError
from imgclf.images import decode, measurements
from imgclf.images.formats import filetypes
from imgclf.images.sources import expand

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and names of any bytes need Linux or macOS")

PATIENCE = 200  # seconds after which a command counts as hung
MEMORY = 2500  # megabytes that `predict` may take: two threads with the largest images that are allowed
UNREADABLE = f"{CLASSES[1]}/links/to memory.jpg"  # /proc/self/mem: an error of input and output for everyone, root too
TOO_LONG = "e" * 255  # a name that lacks an ending and has no room for one


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that has ended. megabytes: the most that its process held."""

    code: int
    out: str
    err: str
    megabytes: float

    def json(self) -> Any:
        return json.loads(self.out)


def run(folder: Path, *arguments: object, stdin: bytes = b"") -> Done:
    """The real command in a folder; fails where it hangs, ends with another code than 0 or 1, or shows a traceback."""
    names = [folder / f".{number}.txt" for number in range(3)]
    names[0].write_bytes(stdin)
    command = [sys.executable, "-m", "imgclf", *map(str, arguments)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "120"}
    most, began = 0.0, time.monotonic()
    with open(names[0], "rb") as given, open(names[1], "wb") as out, open(names[2], "wb") as err:
        child = subprocess.Popen(command, stdin=given, stdout=out, stderr=err, cwd=folder, env=environment)
        while child.poll() is None:
            most = max(most, _megabytes(child.pid))
            if time.monotonic() - began > PATIENCE:
                child.kill()
                child.wait()
                pytest.fail(f"{command} has not ended within {PATIENCE} s")
            time.sleep(0.02)
    done = Done(
        child.returncode, names[1].read_bytes().decode("utf-8", "surrogateescape"), names[2].read_bytes().decode(), most
    )
    assert done.code in (0, 1), done.err[-3000:]
    assert "Traceback" not in done.out + done.err
    assert "a bug in imgclf" not in done.err
    return done


def _megabytes(process: int) -> float:
    """The most memory that a process has held so far, as Linux counts it; 0 elsewhere."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)
    except OSError:
        return 0.0


def shows_no_raw_name(text: str) -> bool:
    """Whether nothing in what a person sees could command a terminal."""
    return all(character.isprintable() or character in "\n\u00a0\u3000\u200d" for character in text)  # spaces, joined emoji


@pytest.fixture(scope="module")
def made() -> list[Hostile]:
    return files()


@pytest.fixture(scope="module")
def dirty(made: list[Hostile], tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A folder that nothing moves files in."""
    return plant(tmp_path_factory.mktemp("dirty") / "data", made)


@pytest.fixture(scope="module")
def looked(dirty: Planted) -> dict[str, Any]:
    """What `clean --dry-run` says of it."""
    before = recorded(dirty.root)
    options = ("--dry-run", "--json", "--report", "report.csv", "--html", "found.html")
    done = run(dirty.root.parent, "clean", "data", *options)
    assert done.code == 1  # for the file that cannot be read
    assert {path: what for path, what in recorded(dirty.root).items() if not path.startswith(".imgclf/")} == before
    return done.json()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def broken(looked: dict[str, Any]) -> dict[str, str]:
    """Why each file cannot be used that `clean` calls broken or unsupported."""
    return {found["path"]: found["detail"] for found in looked["issues"] if found["check"] in ("broken", "unsupported")}


TRAIN = ("--epochs", 1, "--model", "cnn-small", "--image-size", 16, "--augment", "none", "--precision", "float32",
         "--no-progressive", "--time-budget", "1h", "--run-dir", "runs/toy")  # fmt: skip


@pytest.fixture(scope="module")
def trained_on_it(dirty: Planted) -> Done:
    """A training on the folder as it is; its run is runs/toy."""
    return run(dirty.root.parent, "train", "data", *TRAIN)


@pytest.fixture(scope="module")
def answers(dirty: Planted, trained_on_it: Done) -> dict[str, dict[str, Any]]:
    """The record of every file, by path, when all of them are given on stdin."""
    paths = sorted(dirty.kinds)
    given = b"".join(os.fsencode(f"data/{path}") + b"\0" for path in paths)
    done = run(dirty.root.parent, "predict", "-", "--null", "--jsonl", stdin=given)
    records = [json.loads(line) for line in done.out.split("\n") if line]
    assert [record["input"] for record in records] == [f"data/{path}" for path in paths]
    assert done.code == 1
    assert done.megabytes < MEMORY
    return dict(zip(paths, records, strict=True))


# -- the set itself ---------------------------------------------------------------------------------------------------------


def test_the_files_are_the_same_every_time(made: list[Hostile]) -> None:
    assert files() == made
    assert len({file.name for file in made}) == len(made) >= 500
    assert all("/" not in file.name and 0 < len(os.fsencode(file.name)) <= 255 for file in made)
    assert sum(len(file.content) for file in made) < 12_000_000
    assert {filetypes.sniff(file.content[:32]) for file in made if file.usable} == set(filetypes.FORMATS)


def test_each_is_an_image_or_a_reason(made: list[Hostile]) -> None:
    """Decoded whole, or refused in words; in time; and what `clean` keeps of it agrees."""
    wrong = []
    for file in made:
        began = time.monotonic()
        try:
            image = decode.decode(file.content)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size, file.name
        except ImageError as error:
            image = None
            assert error.reason in ("damaged", "empty", "not-an-image", "too-large", "unsupported"), file.name
            assert str(error), file.name
        if time.monotonic() - began > 5:
            wrong.append((file.name, "takes too long"))
        if file.usable is not None and file.usable != (image is not None):
            wrong.append((file.name, "usable" if image is not None else "not usable"))
        if measurements.measure(file.content)[1] == "" if image is None else measurements.measure(file.content)[1] != "":
            wrong.append((file.name, "not what its measured say"))
    assert wrong == []


def test_what_is_cut_off_never_passes_with_other_pixels(made: list[Hostile]) -> None:
    """Nor does a flipped bit where the format has sums that show it."""
    summed = [f"{kind} {number} with a bit" for kind in ("png", "palette png", "16-bit png", "interlaced png", "grey-alpha png",
              "deflate tiff") for number in range(7)]  # fmt: skip
    held = 0
    for file in made:
        if file.kind == "truncated" or file.name.startswith(tuple(summed)):
            held += 1
            try:
                image = decode.decode(file.content)
            except ImageError:
                continue
            np.testing.assert_array_equal(image, decode.decode(file.whole), file.name)
    assert held == sum(file.kind == "truncated" for file in made) + len(summed)


def test_orientations_are_applied_and_nonsense_is_not(made: list[Hostile]) -> None:
    held = 0
    for file in made:
        if file.kind == "orientation" and file.usable:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Pillow thinks of orientation 65535
                expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.content))).convert("RGB"))
            image = decode.decode(file.content)
            assert image.shape == expected.shape, file.name
            assert np.abs(image.astype(int) - expected).mean() < 3, file.name
            held += 1
    assert held >= 40


# -- commands that look -----------------------------------------------------------------------------------------------------


def test_clean_accounts_for_every_file(dirty: Planted, looked: dict[str, Any], broken: dict[str, str]) -> None:
    counts = looked["counts"]
    assert looked["files"] == len(dirty.kinds)
    assert sum(counts[name] for name in ("kept", "renamed", "quarantined", "ignored", "stuck")) == len(dirty.kinds)
    assert {one["path"] for one in looked["ignored"]} == dirty.ignored
    assert {found["path"] for found in looked["issues"] if found["action"] == "stuck"} == {UNREADABLE}
    counted = {path for path in dirty.kinds if path not in dirty.ignored}
    assert [path for path in counted if dirty.usable[path] is True and path in broken] == []
    assert [path for path in counted if dirty.usable[path] is False and path not in broken] == []
    assert all(broken.values())
    for label, number in looked["images"].items():
        assert number["before"] == sum(path.startswith(f"{label}/") and path not in broken for path in counted)


def test_its_report_and_page_name_every_file(dirty: Planted, looked: dict[str, Any]) -> None:
    rows = [row for _number, row in csv_files.records(dirty.root.parent / "report.csv", "path", "action")]
    assert {row["path"] for row in rows} == set(dirty.kinds)
    words = collections.Counter(row["action"] for row in rows)
    assert words["ignored"] == looked["counts"]["ignored"]
    assert words["quarantine"] == looked["counts"]["quarantined"]
    page = (dirty.root.parent / "found.html").read_text("utf-8")
    assert shows_no_raw_name(page)
    by_check: dict[str, list[str]] = collections.defaultdict(list)
    for found in looked["issues"]:
        by_check[found["check"]].append(found["path"])
    assert {one["path"] for one in images_of(page)} == {
        path for paths in by_check.values() for path in paths[: writing.PAGE_LIMIT]
    }


def images_of(page: str) -> list[dict[str, Any]]:
    """What a page of images shows."""
    match = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert match
    return json.loads(match[1])["images"]  # type: ignore[no-any-return]


def test_no_name_reaches_the_terminal_raw(dirty: Planted, trained_on_it: Done, looked: dict[str, Any]) -> None:
    named = [f"data/{path}" for path in sorted(dirty.kinds) if dirty.kinds[path] in ("named", "folder", "link")]
    given = b"".join(os.fsencode(name) + b"\0" for name in named)
    for done in (
        run(dirty.root.parent, "clean", "data", "--dry-run"),
        run(dirty.root.parent, "preview", "data", "--strip"),
        run(dirty.root.parent, "predict", "-", "-0", stdin=given),
        trained_on_it,
    ):
        assert shows_no_raw_name(done.out)
        assert shows_no_raw_name(done.err)
    rows = run(dirty.root.parent, "predict", "-", "-0", "--csv", stdin=given).out
    assert [row["input"] for row in csv.DictReader(io.StringIO(rows, newline=""))] == named


def test_preview_counts_every_file(dirty: Planted, broken: dict[str, str]) -> None:
    options = ("--json", "--html", "page.html", "--histograms", "histograms.png", "--out", "sheet.png")
    done = run(dirty.root.parent, "preview", "data", *options)
    assert done.code == 0
    found = done.json()
    shown = sum(one["count"] for one in found["classes"])
    assert shown + len(found["skipped"]) + len(dirty.ignored) == len(dirty.kinds)
    assert {path for path, _reason in found["skipped"]} <= set(broken)
    for one in found["classes"]:
        assert one["count"] == one["unreadable"] + sum(number for _form, number in one["formats"])
    usable = {path for path in dirty.kinds if path not in dirty.ignored and path not in broken}
    for one in found["histograms"]["classes"]:
        assert one["count"] == sum(path.startswith(f"{one['label']}/") for path in usable)
        assert sum(one["size"]) == sum(one["aspect"]) == sum(one["brightness"]) == one["count"]
    page = (dirty.root.parent / "page.html").read_text("utf-8")
    assert shows_no_raw_name(page)
    images = {one["path"]: one for one in images_of(page)}
    assert set(images) == {path for path in dirty.kinds if path not in dirty.ignored}
    assert {path for path, one in images.items() if one["thumbnail"]} == usable
    for name in ("sheet.png", "histograms.png"):
        assert decode.decode((dirty.root.parent / name).read_bytes()).size


def test_training_says_what_it_leaves_out(dirty: Planted, trained_on_it: Done, broken: dict[str, str]) -> None:
    assert trained_on_it.code == 0
    assert skipped(trained_on_it) == len(broken)
    known = json.loads((dirty.root.parent / "runs/toy/bundle.json").read_bytes())
    assert known["class_names"] == list(CLASSES)
    assert known["data"]["skipped"] == []
    split = run(dirty.root.parent, "split", "data", "--json")
    assert split.code == 0
    found = split.json()
    assert not found["changed"]
    assert dict(found["skipped"]) == broken
    counts = collections.Counter[str]()
    for parts in found["counts"].values():
        counts.update(parts)
    assert counts.total() + len(broken) + len(dirty.ignored) == len(dirty.kinds)
    assert known["data"]["images"] == {"train": counts["train"], "val": counts["val"]}
    done = run(dirty.root.parent, "evaluate", "--json", "--html", "score.html")
    assert done.code == 0
    assert done.json()["images"] == counts["test"]
    assert done.json()["skipped"] == []
    words = f"files in {dirty.root} that are not in the run's split and were not scored: {len(broken)}"
    first, *rest = done.json()["notes"]
    assert first == words
    assert all(re.match(r"[0-9]+ images in [0-9]+ groups|Warning: accuracy ", note) for note in rest), rest


def skipped(done: Done) -> int:
    """How many files a command has said that it leaves out."""
    count = 0
    for line in done.err.splitlines():
        more = re.fullmatch(r"skipped ([0-9]+) more; .*", line)
        count += int(more[1]) if more else line.startswith("skipped ")
    return count


# -- predict and serve ------------------------------------------------------------------------------------------------------


def test_predict_fails_for_what_clean_calls_broken(
    dirty: Planted, answers: dict[str, dict[str, Any]], broken: dict[str, str]
) -> None:
    for path, record in answers.items():
        assert (record["label"] is None) == (record["probability"] is None) == (record["error"] is not None), path
        assert record["label"] in (None, *CLASSES)
    errors = {path: record["error"] for path, record in answers.items() if record["error"] and path not in dirty.ignored}
    assert set(errors) == set(broken)
    other_words = {path for path, error in errors.items() if error != broken[path]}
    assert all(path.endswith((".zip", ".tar.gz")) for path in other_words)  # taken for archives


def test_a_folder_stands_for_all_that_could_be_images(dirty: Planted) -> None:
    """Each file once, however the folders hang together, and no pipe is waited for."""
    found = [source.name for source in expand([str(dirty.root)])]
    assert len(found) == len(set(found))
    by_name = {path for path in dirty.kinds if Path(path).suffix.lower() in {".jpg", ".png", ".tif", ".webp"}}
    hidden = {path for path in dirty.kinds if any(piece.startswith((".", "__MACOSX")) for piece in path.split("/"))}
    assert {str(dirty.root / path) for path in by_name - hidden} <= set(found)


def posted(server: Server, path: Path) -> tuple[int, Any]:
    """(status, answer); of a file that is larger than a request may be, only the announcement is sent."""
    size = path.stat().st_size
    if size <= 60_000_000:
        status, _headers, body = server.ask("POST", "/predict", path.read_bytes())
        return status, json.loads(body)
    head, _, body = server.raw(
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {size}\r\n\r\n".encode()
    ).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture(scope="module")
def server(dirty: Planted, trained_on_it: Done) -> Iterator[Server]:
    folder = dirty.root.parent
    with served(folder / "runs/toy", cwd=folder, env={"XDG_CACHE_HOME": str(folder / "cache")}) as one:
        yield one


def test_serve_answers_as_predict_does(server: Server, dirty: Planted, answers: dict[str, dict[str, Any]]) -> None:
    statuses = collections.Counter[int]()
    for path, record in answers.items():
        if not (dirty.root / path).is_file() or path == UNREADABLE:
            continue
        status, answer = posted(server, dirty.root / path)
        statuses[status] += 1
        if status == 200:
            assert answer == [{**record, "input": "body"}], path
        elif status == 422:
            assert answer[0]["error"], path
            assert record["error"] or "more than the limit" in answer[0]["error"], path  # the server's limits are lower
        else:
            assert (status, dirty.kinds[path]) in ((400, "empty"), (413, "huge")), path
    assert statuses.total() == sum((dirty.root / path).is_file() for path in answers) - 1
    assert statuses[200] > 500
    good = dirty.good[0]
    assert server.ask("POST", "/predict", (dirty.root / good).read_bytes())[0] == 200
    assert server.memory() < MEMORY
    assert server.end() == (0, "")


# -- commands that move -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cleaned:
    planted: Planted
    before: dict[str, tuple[str, bytes | str]]
    after: dict[str, tuple[str, bytes | str]]
    said: dict[str, Any]


@pytest.fixture(scope="module")
def cleaned(made: list[Hostile], tmp_path_factory: pytest.TempPathFactory) -> Cleaned:
    """Another such folder, cleaned."""
    planted = plant(tmp_path_factory.mktemp("cleaned") / "data", made)
    before = recorded(planted.root.parent)
    done = run(planted.root.parent, "clean", "data", "--json")
    assert done.code == 1  # for what is stuck
    return Cleaned(planted, before, recorded(planted.root.parent), done.json())


def outside(found: dict[str, tuple[str, bytes | str]]) -> dict[str, tuple[str, bytes | str]]:
    """Without what imgclf has made itself."""
    return {path: what for path, what in found.items() if not path.startswith(("data/.imgclf/", "cache/", ".", "runs/"))}


def test_clean_loses_no_byte(cleaned: Cleaned) -> None:
    moved = {found["path"]: found["moved_to"] for found in cleaned.said["issues"] if found["moved_to"]}
    counts = cleaned.said["counts"]
    assert len(moved) == counts["quarantined"] + counts["renamed"] > 500
    assert sum(counts[name] for name in ("kept", "renamed", "quarantined", "ignored", "stuck")) == len(cleaned.planted.kinds)
    stuck = {found["path"] for found in cleaned.said["issues"] if found["action"] == "stuck"}
    assert {Path(path).name for path in stuck} == {Path(UNREADABLE).name, TOO_LONG}
    expected = {
        f"data/{moved.get(path.removeprefix('data/'), path.removeprefix('data/'))}" if path.startswith("data/") else path: what
        for path, what in cleaned.before.items()
    }
    assert len(expected) == len(cleaned.before)
    own = ("data/.imgclf/journal/", "data/.imgclf/index/", "data/.imgclf/lock", "cache/", ".")
    assert {path: what for path, what in cleaned.after.items() if not path.startswith(own)} == outside(expected) | {
        path: what for path, what in expected.items() if path.startswith("data/.imgclf/quarantine/")
    }


def test_a_second_clean_finds_nothing_to_do(cleaned: Cleaned) -> None:
    done = run(cleaned.planted.root.parent, "clean", "data", "--json")
    counts = done.json()["counts"]
    assert (done.code, counts["quarantined"], counts["renamed"], counts["stuck"]) == (1, 0, 0, 2)
    assert outside(recorded(cleaned.planted.root.parent)) == outside(cleaned.after)


def test_what_clean_keeps_can_be_trained_on(cleaned: Cleaned) -> None:
    done = run(cleaned.planted.root.parent, "train", "data", *TRAIN)
    assert done.code == 0
    unsupported = [found for found in cleaned.said["issues"] if found["check"] == "unsupported"]
    assert {found["action"] for found in unsupported} == {"reported"}
    reasons = {f"skipped {found['path']}: {found['detail']}" for found in unsupported}
    reasons.add(f"skipped {UNREADABLE}: cannot be read: Input/output error")
    assert skipped(done) == len(reasons)
    assert {line for line in done.err.splitlines() if re.match(r"skipped (?!\d+ more;)", line)} <= reasons


def test_undo_brings_names_and_bytes_back(cleaned: Cleaned) -> None:
    folder = cleaned.planted.root.parent
    assert run(folder, "clean", "data", "--undo").code == 0
    assert outside(recorded(folder)) == outside(cleaned.before)
    again = run(folder, "clean", "data", "--json").json()
    assert again["counts"] == cleaned.said["counts"]
    assert outside(recorded(folder)) == outside(cleaned.after)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_stays_and_is_said(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 3, "b": 3})
    write(tmp_path / "a" / "forbidden.jpg", encoded(photo(1))).chmod(0)
    result = cleaning.clean(tmp_path)
    assert [(one.path, one.action, one.detail) for one in result.issues] == [
        ("a/forbidden.jpg", "stuck", "cannot be read: Permission denied")
    ]
    assert result.counts()["kept"] == 6
    with pytest.raises(ImageError, match="Permission denied"):
        next(iter(expand([str(tmp_path / "a" / "forbidden.jpg")]))).pixels()
