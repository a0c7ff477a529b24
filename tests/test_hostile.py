"""Send hostile files through every command: each is used or named with a reason; nothing is lost, crashes or hangs."""

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
MEMORY = 2500  # maximum megabytes of `predict`: two threads with the largest allowed images
UNREADABLE = f"{CLASSES[1]}/links/to memory.jpg"  # /proc/self/mem: an I/O error for every user, even root
TOO_LONG = "e" * 255  # no extension, and too long to add one


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that has ended. megabytes: the peak memory of its process."""

    code: int
    out: str
    err: str
    megabytes: float

    def json(self) -> Any:
        return json.loads(self.out)


def run(folder: Path, *arguments: object, stdin: bytes = b"") -> Done:
    """Run the real command in a folder. Fail if it hangs, shows a traceback, or has another exit code than 0 or 1."""
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
    """Return the peak memory of a process on Linux; 0 on other systems."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)
    except OSError:
        return 0.0


def shows_no_raw_name(text: str) -> bool:
    """Whether the text contains no character that controls a terminal."""
    return all(character.isprintable() or character in "\n\u00a0\u3000\u200d" for character in text)  # spaces, joined emoji


@pytest.fixture(scope="module")
def made() -> list[Hostile]:
    return files()


@pytest.fixture(scope="module")
def hostile_data(made: list[Hostile], tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Make a folder in which no test moves files."""
    return plant(tmp_path_factory.mktemp("hostile_data") / "data", made)


@pytest.fixture(scope="module")
def scanned(hostile_data: Planted) -> dict[str, Any]:
    """Run `clean --dry-run` and return its JSON."""
    before = recorded(hostile_data.root)
    options = ("--dry-run", "--json", "--report", "report.csv", "--html", "found.html")
    done = run(hostile_data.root.parent, "clean", "data", *options)
    assert done.code == 1  # because one file cannot be read
    assert {path: what for path, what in recorded(hostile_data.root).items() if not path.startswith(".imgclf/")} == before
    return done.json()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def broken(scanned: dict[str, Any]) -> dict[str, str]:
    """Return the reason for each file that `clean` calls broken or unsupported."""
    return {found["path"]: found["detail"] for found in scanned["issues"] if found["check"] in ("broken", "unsupported")}


TRAIN = ("--epochs", 1, "--model", "cnn-small", "--image-size", 16, "--augment", "none", "--precision", "float32",
         "--no-progressive", "--time-budget", "1h", "--run-dir", "runs/toy")  # fmt: skip


@pytest.fixture(scope="module")
def training(hostile_data: Planted) -> Done:
    """Train on the unchanged folder; the run is runs/toy."""
    return run(hostile_data.root.parent, "train", "data", *TRAIN)


@pytest.fixture(scope="module")
def records_by_path(hostile_data: Planted, training: Done) -> dict[str, dict[str, Any]]:
    """Give all paths on stdin and return the record of every file by path."""
    paths = sorted(hostile_data.kinds)
    given = b"".join(os.fsencode(f"data/{path}") + b"\0" for path in paths)
    done = run(hostile_data.root.parent, "predict", "-", "--null", "--jsonl", stdin=given)
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


def test_each_file_is_an_image_or_has_a_reason(made: list[Hostile]) -> None:
    """Each file decodes, or is refused with a reason, in time; the measurements of `clean` agree."""
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
            wrong.append((file.name, "disagrees with its measurements"))
    assert wrong == []


def test_truncated_files_never_decode_to_other_pixels(made: list[Hostile]) -> None:
    """Neither do files with a flipped bit, if the format has checksums."""
    summed = [f"{kind} {number} with a bit" for kind in ("png", "palette png", "16-bit png", "interlaced png", "grey-alpha png",
              "deflate tiff") for number in range(7)]  # fmt: skip
    checked = 0
    for file in made:
        if file.kind == "truncated" or file.name.startswith(tuple(summed)):
            checked += 1
            try:
                image = decode.decode(file.content)
            except ImageError:
                continue
            np.testing.assert_array_equal(image, decode.decode(file.whole), file.name)
    assert checked == sum(file.kind == "truncated" for file in made) + len(summed)


def test_valid_orientations_are_applied(made: list[Hostile]) -> None:
    checked = 0
    for file in made:
        if file.kind == "orientation" and file.usable:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns about orientation 65535
                expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.content))).convert("RGB"))
            image = decode.decode(file.content)
            assert image.shape == expected.shape, file.name
            assert np.abs(image.astype(int) - expected).mean() < 3, file.name
            checked += 1
    assert checked >= 40


# -- commands that only read ------------------------------------------------------------------------------------------------


def test_clean_accounts_for_every_file(hostile_data: Planted, scanned: dict[str, Any], broken: dict[str, str]) -> None:
    counts = scanned["counts"]
    assert scanned["files"] == len(hostile_data.kinds)
    assert sum(counts[name] for name in ("kept", "renamed", "quarantined", "ignored", "stuck")) == len(hostile_data.kinds)
    assert {one["path"] for one in scanned["ignored"]} == hostile_data.ignored
    assert {found["path"] for found in scanned["issues"] if found["action"] == "stuck"} == {UNREADABLE}
    counted = {path for path in hostile_data.kinds if path not in hostile_data.ignored}
    assert [path for path in counted if hostile_data.usable[path] is True and path in broken] == []
    assert [path for path in counted if hostile_data.usable[path] is False and path not in broken] == []
    assert all(broken.values())
    for label, number in scanned["images"].items():
        assert number["before"] == sum(path.startswith(f"{label}/") and path not in broken for path in counted)


def test_report_and_page_name_every_file(hostile_data: Planted, scanned: dict[str, Any]) -> None:
    rows = [row for _number, row in csv_files.records(hostile_data.root.parent / "report.csv", "path", "action")]
    assert {row["path"] for row in rows} == set(hostile_data.kinds)
    words = collections.Counter(row["action"] for row in rows)
    assert words["ignored"] == scanned["counts"]["ignored"]
    assert words["quarantine"] == scanned["counts"]["quarantined"]
    page = (hostile_data.root.parent / "found.html").read_text("utf-8")
    assert shows_no_raw_name(page)
    by_check: dict[str, list[str]] = collections.defaultdict(list)
    for found in scanned["issues"]:
        by_check[found["check"]].append(found["path"])
    assert {one["path"] for one in images_of(page)} == {
        path for paths in by_check.values() for path in paths[: writing.PAGE_LIMIT]
    }


def images_of(page: str) -> list[dict[str, Any]]:
    """Return the images of an HTML page."""
    match = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert match
    return json.loads(match[1])["images"]  # type: ignore[no-any-return]


def test_no_name_reaches_the_terminal_raw(hostile_data: Planted, training: Done, scanned: dict[str, Any]) -> None:
    named = [f"data/{path}" for path in sorted(hostile_data.kinds) if hostile_data.kinds[path] in ("named", "folder", "link")]
    given = b"".join(os.fsencode(name) + b"\0" for name in named)
    for done in (
        run(hostile_data.root.parent, "clean", "data", "--dry-run"),
        run(hostile_data.root.parent, "preview", "data", "--strip"),
        run(hostile_data.root.parent, "predict", "-", "-0", stdin=given),
        training,
    ):
        assert shows_no_raw_name(done.out)
        assert shows_no_raw_name(done.err)
    rows = run(hostile_data.root.parent, "predict", "-", "-0", "--csv", stdin=given).out
    assert [row["input"] for row in csv.DictReader(io.StringIO(rows, newline=""))] == named


def test_preview_counts_every_file(hostile_data: Planted, broken: dict[str, str]) -> None:
    options = ("--json", "--html", "page.html", "--histograms", "histograms.png", "--out", "sheet.png")
    done = run(hostile_data.root.parent, "preview", "data", *options)
    assert done.code == 0
    found = done.json()
    shown = sum(one["count"] for one in found["classes"])
    assert shown + len(found["skipped"]) + len(hostile_data.ignored) == len(hostile_data.kinds)
    assert {path for path, _reason in found["skipped"]} <= set(broken)
    for one in found["classes"]:
        assert one["count"] == one["unreadable"] + sum(number for _form, number in one["formats"])
    usable = {path for path in hostile_data.kinds if path not in hostile_data.ignored and path not in broken}
    for one in found["histograms"]["classes"]:
        assert one["count"] == sum(path.startswith(f"{one['label']}/") for path in usable)
        assert sum(one["size"]) == sum(one["aspect"]) == sum(one["brightness"]) == one["count"]
    page = (hostile_data.root.parent / "page.html").read_text("utf-8")
    assert shows_no_raw_name(page)
    images = {one["path"]: one for one in images_of(page)}
    assert set(images) == {path for path in hostile_data.kinds if path not in hostile_data.ignored}
    assert {path for path, one in images.items() if one["thumbnail"]} == usable
    for name in ("sheet.png", "histograms.png"):
        assert decode.decode((hostile_data.root.parent / name).read_bytes()).size


def test_training_names_the_skipped_files(hostile_data: Planted, training: Done, broken: dict[str, str]) -> None:
    assert training.code == 0
    assert skipped(training) == len(broken)
    known = json.loads((hostile_data.root.parent / "runs/toy/bundle.json").read_bytes())
    assert known["class_names"] == list(CLASSES)
    assert known["data"]["skipped"] == []
    split = run(hostile_data.root.parent, "split", "data", "--json")
    assert split.code == 0
    found = split.json()
    assert not found["changed"]
    assert dict(found["skipped"]) == broken
    counts = collections.Counter[str]()
    for parts in found["counts"].values():
        counts.update(parts)
    assert counts.total() + len(broken) + len(hostile_data.ignored) == len(hostile_data.kinds)
    assert known["data"]["images"] == {"train": counts["train"], "val": counts["val"]}
    done = run(hostile_data.root.parent, "evaluate", "--json", "--html", "score.html")
    assert done.code == 0
    assert done.json()["images"] == counts["test"]
    assert done.json()["skipped"] == []
    words = f"files in {hostile_data.root} that are not in the run's split and were not scored: {len(broken)}"
    first, *rest = done.json()["notes"]
    assert first == words
    assert all(re.match(r"[0-9]+ images in [0-9]+ groups|Warning: accuracy ", note) for note in rest), rest


def skipped(done: Done) -> int:
    """Return the number of files that a command reports as skipped."""
    count = 0
    for line in done.err.splitlines():
        more = re.fullmatch(r"skipped ([0-9]+) more; .*", line)
        count += int(more[1]) if more else line.startswith("skipped ")
    return count


# -- predict and serve ------------------------------------------------------------------------------------------------------


def test_predict_and_clean_agree_on_broken_files(
    hostile_data: Planted, records_by_path: dict[str, dict[str, Any]], broken: dict[str, str]
) -> None:
    for path, record in records_by_path.items():
        assert (record["label"] is None) == (record["probability"] is None) == (record["error"] is not None), path
        assert record["label"] in (None, *CLASSES)
    errors = {
        path: record["error"]
        for path, record in records_by_path.items()
        if record["error"] and path not in hostile_data.ignored
    }
    assert set(errors) == set(broken)
    other_words = {path for path, error in errors.items() if error != broken[path]}
    assert all(path.endswith((".zip", ".tar.gz")) for path in other_words)  # opened as archives


def test_a_folder_expands_to_every_possible_image_once(hostile_data: Planted) -> None:
    """Each file once, in spite of links between folders, and without waiting for a pipe."""
    found = [source.name for source in expand([str(hostile_data.root)])]
    assert len(found) == len(set(found))
    by_name = {path for path in hostile_data.kinds if Path(path).suffix.lower() in {".jpg", ".png", ".tif", ".webp"}}
    hidden = {path for path in hostile_data.kinds if any(piece.startswith((".", "__MACOSX")) for piece in path.split("/"))}
    assert {str(hostile_data.root / path) for path in by_name - hidden} <= set(found)


def posted(server: Server, path: Path) -> tuple[int, Any]:
    """POST a file and return (status, document); for a file above the limit, send only the headers."""
    size = path.stat().st_size
    if size <= 60_000_000:
        status, _headers, body = server.ask("POST", "/predict", path.read_bytes())
        return status, json.loads(body)
    head, _, body = server.raw(
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {size}\r\n\r\n".encode()
    ).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture(scope="module")
def server(hostile_data: Planted, training: Done) -> Iterator[Server]:
    folder = hostile_data.root.parent
    with served(folder / "runs/toy", cwd=folder, env={"XDG_CACHE_HOME": str(folder / "cache")}) as one:
        yield one


def test_serve_and_predict_return_the_same_records(
    server: Server, hostile_data: Planted, records_by_path: dict[str, dict[str, Any]]
) -> None:
    statuses = collections.Counter[int]()
    for path, record in records_by_path.items():
        if not (hostile_data.root / path).is_file() or path == UNREADABLE:
            continue
        status, records = posted(server, hostile_data.root / path)
        statuses[status] += 1
        if status == 200:
            assert records == [{**record, "input": "body"}], path
        elif status == 422:
            assert records[0]["error"], path
            assert record["error"] or "more than the limit" in records[0]["error"], path  # the server's limits are lower
        else:
            assert (status, hostile_data.kinds[path]) in ((400, "empty"), (413, "huge")), path
    assert statuses.total() == sum((hostile_data.root / path).is_file() for path in records_by_path) - 1
    assert statuses[200] > 500
    good = hostile_data.good[0]
    assert server.ask("POST", "/predict", (hostile_data.root / good).read_bytes())[0] == 200
    assert server.memory() < MEMORY
    assert server.end() == (0, "")


# -- commands that move -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cleaned:
    planted: Planted
    before: dict[str, tuple[str, bytes | str]]
    after: dict[str, tuple[str, bytes | str]]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def cleaned(made: list[Hostile], tmp_path_factory: pytest.TempPathFactory) -> Cleaned:
    """Run `clean` on a second folder of hostile files."""
    planted = plant(tmp_path_factory.mktemp("cleaned") / "data", made)
    before = recorded(planted.root.parent)
    done = run(planted.root.parent, "clean", "data", "--json")
    assert done.code == 1  # because some files are stuck
    return Cleaned(planted, before, recorded(planted.root.parent), done.json())


def outside(found: dict[str, tuple[str, bytes | str]]) -> dict[str, tuple[str, bytes | str]]:
    """Return the files that imgclf did not make."""
    return {path: what for path, what in found.items() if not path.startswith(("data/.imgclf/", "cache/", ".", "runs/"))}


def test_clean_loses_no_byte(cleaned: Cleaned) -> None:
    moved = {found["path"]: found["moved_to"] for found in cleaned.report["issues"] if found["moved_to"]}
    counts = cleaned.report["counts"]
    assert len(moved) == counts["quarantined"] + counts["renamed"] > 500
    assert sum(counts[name] for name in ("kept", "renamed", "quarantined", "ignored", "stuck")) == len(cleaned.planted.kinds)
    stuck = {found["path"] for found in cleaned.report["issues"] if found["action"] == "stuck"}
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


def test_training_works_after_clean(cleaned: Cleaned) -> None:
    done = run(cleaned.planted.root.parent, "train", "data", *TRAIN)
    assert done.code == 0
    unsupported = [found for found in cleaned.report["issues"] if found["check"] == "unsupported"]
    assert {found["action"] for found in unsupported} == {"reported"}
    reasons = {f"skipped {found['path']}: {found['detail']}" for found in unsupported}
    reasons.add(f"skipped {UNREADABLE}: cannot be read: Input/output error")
    assert skipped(done) == len(reasons)
    assert {line for line in done.err.splitlines() if re.match(r"skipped (?!\d+ more;)", line)} <= reasons


def test_undo_restores_names_and_bytes(cleaned: Cleaned) -> None:
    folder = cleaned.planted.root.parent
    assert run(folder, "clean", "data", "--undo").code == 0
    assert outside(recorded(folder)) == outside(cleaned.before)
    again = run(folder, "clean", "data", "--json").json()
    assert again["counts"] == cleaned.report["counts"]
    assert outside(recorded(folder)) == outside(cleaned.after)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_reported_as_stuck(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 3, "b": 3})
    write(tmp_path / "a" / "forbidden.jpg", encoded(photo(1))).chmod(0)
    result = cleaning.clean(tmp_path)
    assert [(one.path, one.action, one.detail) for one in result.issues] == [
        ("a/forbidden.jpg", "stuck", "cannot be read: Permission denied")
    ]
    assert result.counts()["kept"] == 6
    with pytest.raises(ImageError, match="Permission denied"):
        next(iter(expand([str(tmp_path / "a" / "forbidden.jpg")]))).pixels()
