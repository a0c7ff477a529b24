"""Test predict: one record per input, in the order of the inputs, also for errors."""

import csv
import dataclasses
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, bomb, encoded, photo, started, write

from imgclf.core.errors import ImageError, ImgclfError, UsageError
from imgclf.images.sources import Source, arrivals, expand
from imgclf.models.bundle import Bundle
from imgclf.models.prediction import Prediction, threshold
from imgclf.predict import predict


@pytest.fixture
def inputs(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make valid and invalid inputs in unsorted order."""
    monkeypatch.chdir(project)
    shutil.copytree("data/red", "red")
    write(project / "red" / "notes.txt", b"milk")
    write(project / "red" / ".hidden.png", b"x")
    write(project / "no extension", encoded(photo(1)))
    write(project / "half.jpg", encoded(photo(1))[:500])
    write(project / "empty.jpg", b"")
    write(project / "bomb.png", bomb())
    (project / "nothing").mkdir()
    return [
        "half.jpg",
        "no extension",
        "missing.jpg",
        "red",
        "data/blue/00[01].png",
        "empty.jpg",
        "*.gif",
        "nothing",
        "bomb.png",
    ]


def names(folder: str, numbers: range) -> list[str]:
    return [f"{folder}/{number:03d}.png" for number in numbers]


EXPECTED_INPUTS = [
    "half.jpg", "no extension", "missing.jpg", *names("red", range(24)), *names("data/blue", range(2)),
    "empty.jpg", "*.gif", "nothing", "bomb.png",
]  # fmt: skip
EXPECTED_ERRORS = {
    "half.jpg": "damaged or truncated JPEG: it cannot be decoded to the end",
    "missing.jpg": "no such file",
    "empty.jpg": "the file has zero bytes",
    "*.gif": "no file matches this pattern",
    "nothing": "no images in this folder",
    "bomb.png": "20000 x 20000 pixels, more than the limit of 134 megapixels",
}


def test_one_record_per_input_in_order(project: Path, inputs: list[str]) -> None:
    records = list(predict(Bundle.load(project / "runs/toy"), inputs, top=2))
    assert [record.input for record in records] == EXPECTED_INPUTS
    assert {record.input: record.error for record in records if record.error} == EXPECTED_ERRORS
    for record in records:
        if record.error:
            assert record == Prediction(record.input, None, None, (), record.error, is_file=record.is_file)
        else:
            assert record.top[0] == (record.label, record.probability)
            assert len(record.top) == 2
            assert record.top[0][1] >= record.top[1][1]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    path = write(tmp_path / "a[1].jpg", encoded(photo(1)))
    assert list(expand([str(path)])) == [Source.on_disk(str(path))]


def test_recursive_globs(tmp_path: Path) -> None:
    for name in ("x/1.jpg", "x/y/2.jpg"):
        write(tmp_path / name, b"")
    for pattern in ("**/*.jpg", "**", "**/*", "x/**"):  # each file once, even if its folder matches too
        found = [source.name for source in expand([f"{tmp_path}/{pattern}"])]
        assert found == [f"{tmp_path}/x/1.jpg", f"{tmp_path}/x/y/2.jpg"], pattern
    assert [source.name for source in expand([f"{tmp_path}/**/y"])] == [f"{tmp_path}/x/y/2.jpg"]
    write(tmp_path / "x" / "notes.txt", b"milk")  # a folder skips these files; a pattern that matches their names does not
    with zipfile.ZipFile(tmp_path / "x" / "old.zip", "w") as archive:
        archive.writestr("3.jpg", encoded(photo(3)))
    found = [source.name.removeprefix(f"{tmp_path}/x/") for source in expand([f"{tmp_path}/**"])]
    assert sorted(found) == ["1.jpg", "notes.txt", "old.zip/3.jpg", "y/2.jpg"]


def test_records_are_yielded_before_later_inputs_are_read(project: Path) -> None:
    """Inputs are streamed: a million inputs are never read in advance."""
    requested = 0

    def endless() -> object:
        nonlocal requested
        while True:
            requested += 1
            yield str(project / "data" / "red" / "000.png")

    records = predict(Bundle.load(project / "runs/toy"), endless())  # type: ignore[arg-type]
    for _ in range(20):
        assert next(records).error is None
    from imgclf.core.parallel import cpu_count

    assert requested <= 20 + 8 * cpu_count() + 2


def test_a_record_is_printed_while_stdin_is_open(project: Path) -> None:
    """A program may write one path and wait for its record."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "imgclf", "predict", "-", "--jsonl"]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=project) as child:
        assert child.stdin
        assert child.stdout
        for name in ("data/red/000.png", "data/blue/000.png"):
            child.stdin.write(f"{name}\n".encode())
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["input"] == name
        child.stdin.close()
        assert child.wait(timeout=60) == 0


def test_only_archives_are_opened_as_archives(tmp_path: Path) -> None:
    """A misnamed image is an image, as in clean; reading a pipe would block until someone writes to it."""
    write(tmp_path / "photo.zip", encoded(photo(1)))
    for name in ("pipe.zip", "pipe.tar.gz"):
        os.mkfifo(tmp_path / name)
    names = [str(tmp_path / name) for name in ("photo.zip", "pipe.zip", "pipe.tar.gz")]
    assert list(expand(names)) == [Source.on_disk(name) for name in names]
    with pytest.raises(ImageError, match="a pipe"):
        Source.on_disk(names[1]).pixels()


def test_a_pipe_in_a_folder_is_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path / "1.jpg", encoded(photo(1)))
    assert list(expand([str(tmp_path)])) == [Source.on_disk(f"{tmp_path}/1.jpg")]


# -- the command ------------------------------------------------------------------------------------------------------


def test_jsonl_json_and_csv_agree(imgclf: Run, inputs: list[str]) -> None:
    done = {form: imgclf("predict", *inputs, "--top", "3", form) for form in ("--jsonl", "--json", "--csv")}
    assert {(run.returncode, run.stderr) for run in done.values()} == {(1, "")}
    lines = [json.loads(line) for line in done["--jsonl"].stdout.splitlines()]
    assert [line["input"] for line in lines] == EXPECTED_INPUTS
    assert list(lines[0]) == ["input", "label", "probability", "top", "error"]
    assert json.loads(done["--json"].stdout) == lines
    rows = list(csv.DictReader(io.StringIO(done["--csv"].stdout)))
    assert list(rows[0]) == ["input", "label", "probability", "error", "label_2", "probability_2", "label_3", "probability_3"]
    for row, line in zip(rows, lines, strict=True):
        assert (row["input"], row["label"], row["error"]) == (line["input"], line["label"] or "", line["error"] or "")
        if not line["error"]:
            assert float(row["probability_3"]) == line["top"][2]["probability"]


def test_table_and_exit_code(imgclf: Run, project: Path) -> None:
    done = imgclf("predict", "data/red/000.png")
    assert (done.returncode, done.stderr) == (0, "")
    heading, row = done.stdout.splitlines()
    assert heading.split() == ["input", "label", "probability"]
    assert row.split()[0] == "data/red/000.png"
    done = imgclf("predict", "data/red/000.png", "missing.jpg")
    assert done.returncode == 1
    assert "no such file" in done.stdout


def test_paths_on_stdin(imgclf: Run, project: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 .png")
    shutil.copy(project / "data/red/001.png", project / odd)
    done = imgclf("predict", "-", "--jsonl", stdin=b"data/red/000.png\n\ncaf\xe9 .png\r\nmissing.png\n")
    done.stdout.encode("utf-8")  # valid UTF-8, whatever the names
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["input"], record["error"]) for record in records] == [
        ("data/red/000.png", None), (odd, None), ("missing.png", "no such file")]  # fmt: skip
    assert done.returncode == 1


def test_invalid_calls(imgclf: Run, project: Path) -> None:
    assert imgclf("predict").returncode == 2
    done = imgclf("predict", "x.jpg", "--json", "--csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "imgclf: error: --json, --jsonl, --csv and --format exclude each other; give one of them\n"
    done = imgclf("predict", "x.jpg", "--run", "nope")
    assert done.returncode == 1
    remedy = "`imgclf runs list` shows the runs, `imgclf train` creates one"
    assert done.stderr == f"imgclf: error: nope: no such run folder; {remedy}\n"
    shutil.rmtree(project / "runs")
    done = imgclf("predict", "x.jpg")
    assert done.stderr == "imgclf: error: runs: no finished run here; train one with `imgclf train`, or give --run FOLDER\n"


def test_a_closed_stdout_is_no_error(project: Path) -> None:
    import subprocess
    import sys

    paths = " ".join(["data/red/*.png"] * 50)
    done = subprocess.run(
        f"{sys.executable} -m imgclf predict --jsonl {paths} | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=project,
    )
    assert json.loads(done.stdout)["input"] == "data/red/000.png"
    assert done.stderr == ""


def test_format_and_threshold(project: Path, imgclf: Run) -> None:
    """--format prints custom lines. Below the threshold the label is `unknown`, and the probability is still printed."""
    plain = [json.loads(line) for line in imgclf("predict", "data/red", "data/blue", "--jsonl").stdout.splitlines()]
    done = imgclf(
        "predict", "data/red", "data/blue", "missing.jpg", "--format", r"{label}\t{path}|{name}|{probability}|{error}"
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[-1] == "\tmissing.jpg|missing.jpg||no such file"
    expected = [f"{one['label']}\t{one['input']}|{Path(one['input']).name}|{one['probability']:.4f}|" for one in plain]
    assert lines[:-1] == expected
    middle = sorted(one["probability"] for one in plain)[len(plain) // 2]
    done = imgclf("predict", "data/red", "data/blue", "--jsonl", "--threshold", repr(middle))
    sure = [json.loads(line) for line in done.stdout.splitlines()]
    assert 0 < sum(one["label"] == "unknown" for one in sure) < len(sure)
    for before, after in zip(plain, sure, strict=True):
        assert after["label"] == (before["label"] if before["probability"] >= middle else "unknown")
        assert (after["probability"], after["top"]) == (before["probability"], before["top"])
    for options, words in (
        (["--format", "{labl}"], "unknown name {labl}; available: {path}, {name}, {label}, {probability}, {error}"),
        (["--format", "{label"], "--format {label: a brace is not closed; write names as {label}"),
        (["--format", "}{"], "--format }{: a brace is not closed"),
        (["--format", "x", "--csv"], "exclude each other"),
        (["--threshold", "2"], "give a probability from 0 to 1, or auto:"),
        (["--threshold", "auto:99%"], "give a probability from 0 to 1, or auto:"),
        (["--threshold", "nan"], "give a probability from 0 to 1, or auto:"),
        (["-0"], "--null is for paths on stdin"),
    ):
        done = imgclf("predict", "data/red", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


def test_automatic_threshold(project: Path) -> None:
    """auto:A gives the lowest threshold with that accuracy on the validation images, or an error if there is none."""
    run = Bundle.load(project / "runs/toy")
    points = ((0.4, 0.75, 1.0), (0.62, 0.9, 0.5), (0.8, 0.97, 0.25))
    calibration = dataclasses.replace(run.info.calibration, images=40, thresholds=points)
    run.info = dataclasses.replace(run.info, calibration=calibration)
    assert threshold(run, "auto:0.7")[0] == 0.4
    least, note = threshold(run, "auto:0.9")
    assert least == 0.62
    assert note == (
        "threshold 0.6200: 20 of 40 validation images reach this confidence, and 90.0% of these are correct "
        "(95% interval 69.9% to 97.2%)"
    )
    with pytest.raises(
        ImgclfError, match=r"no threshold reaches this accuracy .*; the highest accuracy is 0.9700, with threshold 0.8000"
    ):
        threshold(run, "auto:0.99")
    run.class_names = ("unknown", "red", "blue")
    with pytest.raises(UsageError, match="has a class named unknown"):
        threshold(run, "0.5")


def test_paths_that_end_with_nul_need_the_option_null(project: Path, imgclf: Run) -> None:
    done = imgclf("predict", "-", stdin="data/blue/000.png\0data/blue/001.png\0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "paths on stdin end with NUL, as from find -print0; give --null too" in done.stderr


def test_paths_that_end_with_nul(project: Path, imgclf: Run) -> None:
    name = "data/red/two\nlines.png"
    shutil.copy(project / "data/red/000.png", project / name)
    done = imgclf("predict", "-", "-0", "--jsonl", stdin=f"data/blue/000.png\0{name}\0")
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == ["data/blue/000.png", name]
    write(project / "imgclf.toml", b"[predict]\nnull = true\n")  # the default has no effect without -
    assert imgclf("predict", "data/blue/000.png").returncode == 0
    (project / "imgclf.toml").unlink()
    done = imgclf("predict", "-", "--null", "--jsonl", stdin="data/blue/000.png")
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == ["data/blue/000.png"]


# -- archives, bytes, watched folders -----------------------------------------------------------------------------------


@pytest.fixture
def packed(project: Path) -> Path:
    """Pack images of `data/red` into archives of four kinds, with other files among them."""
    folder = project / "packed"
    for name in ("000.png", "001.png"):
        write(folder / "red" / name, (project / "data/red" / name).read_bytes())
    write(folder / "red" / "no ending", (project / "data/red/002.png").read_bytes())
    write(folder / "red" / "notes.txt", b"milk")
    write(folder / "red" / "half.png", (project / "data/red/000.png").read_bytes()[:300])
    write(folder / ".hidden" / "a.png", b"x")
    write(folder / "__MACOSX" / "a.png", b"x")
    for kind in ("zip", "tar", "gztar", "xztar"):
        shutil.make_archive(str(project / "photos"), kind, folder)
    return project


@pytest.mark.parametrize("archive", ["photos.zip", "photos.tar", "photos.tar.gz", "photos.tar.xz"])
def test_archives(packed: Path, archive: str) -> None:
    """Images in archives get the same probabilities as files; a damaged one gets a record with its error."""
    run = Bundle.load(packed / "runs/toy")
    records = {record.input: record for record in predict(run, [str(packed / archive)])}
    names = {name.removeprefix(f"{packed}/{archive}/") for name in records}
    assert names == {"red/000.png", "red/001.png", "red/no ending", "red/half.png"}
    plain = {record.input: record for record in predict(run, [str(packed / "packed/red")])}
    for name in names:
        inside, outside = records[f"{packed}/{archive}/{name}"], plain[f"{packed}/packed/{name}"]
        assert (inside.label, inside.probability, inside.error) == (outside.label, outside.probability, outside.error)
    assert records[f"{packed}/{archive}/red/half.png"].error


def test_an_image_on_stdin(project: Path, imgclf: Run) -> None:
    content = (project / "data/red/000.png").read_bytes()
    done = imgclf("predict", "--stdin-image", "--jsonl", stdin=content)
    (record,) = map(json.loads, done.stdout.splitlines())
    expected = json.loads(imgclf("predict", "data/red/000.png", "--jsonl").stdout)
    assert record == {**expected, "input": "stdin"}
    done = imgclf("predict", "--stdin-image", "--jsonl", stdin=content[:200])
    assert done.returncode == 1
    assert "damaged" in json.loads(done.stdout)["error"]
    done = imgclf("predict", "-", stdin=content)
    assert (done.returncode, done.stdout) == (2, "")
    assert "stdin contains an image instead of paths; give --stdin-image" in done.stderr


def test_a_folder_that_vanishes_during_the_scan_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / name / "1.jpg", encoded(photo(1)))
    walk = os.walk

    def removing(folder: str, **options: Any) -> Any:
        for here, folders, files in walk(folder, **options):
            if here == str(tmp_path / "b"):
                shutil.rmtree(here)
            yield here, folders, files

    monkeypatch.setattr(os, "walk", removing)
    found = [(source.name, source.problem) for source in expand([str(tmp_path)])]
    assert found == [
        (str(tmp_path / "a" / "1.jpg"), ""),
        (str(tmp_path / "b"), "cannot be listed: No such file or directory"),
        (str(tmp_path / "c" / "1.jpg"), ""),
    ]


def test_arrivals(tmp_path: Path) -> None:
    """Existing files come first, growing files wait, and changed files come again."""
    write(tmp_path / "a.jpg", b"1")
    rounds = arrivals(tmp_path, tmp_path / "sorted", every=0.01)
    assert next(rounds) == []
    write(tmp_path / "sorted" / "b.jpg", b"1")
    write(tmp_path / "deep" / "growing.jpg", b"1")
    assert next(rounds) == [Source.on_disk(str(tmp_path / "a.jpg"))]
    write(tmp_path / "deep" / "growing.jpg", b"12")
    assert next(rounds) == []
    assert next(rounds) == [Source.on_disk(str(tmp_path / "deep/growing.jpg"))]
    assert next(rounds) == []
    write(tmp_path / "a.jpg", b"another")
    assert (next(rounds), next(rounds)) == ([], [Source.on_disk(str(tmp_path / "a.jpg"))])
    shutil.rmtree(tmp_path)
    with pytest.raises(ImgclfError, match="the folder no longer exists"):
        next(rounds)


def test_watch_sorts_new_images(project: Path) -> None:
    """It runs until Ctrl-C; each image is in its class folder before the next round."""
    import signal
    import subprocess
    import sys
    import time

    (project / "in").mkdir()
    command = [sys.executable, "-m", "imgclf", "predict", "--watch", "in", "--move-to", "in/sorted"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=project, text=True) as child:
        assert child.stdout
        assert child.stderr
        for name in ("red", "blue"):
            shutil.copy(project / "data" / name / "000.png", project / "in" / f"{name}.png")
            path, label, probability = child.stdout.readline().split("\t")
            assert (path, label) == (f"in/{name}.png", name)
            assert 0 < float(probability) <= 1
        end = time.monotonic() + 30
        while not (project / "in/sorted/blue/blue.png").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert (project / "in/sorted/red/red.png").exists()
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 130
        said = child.stderr.read()
    assert "2 images into in/sorted: blue 1, red 1" in said
    assert said.endswith("interrupted\n")


# -- sorting --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(project: Path) -> Path:
    """Make a folder of images of two classes, two of the same name and one broken."""
    for name in ("red", "blue"):
        for number in range(3):
            write(project / "photos" / f"{name}-{number}.png", (project / f"data/{name}/00{number}.png").read_bytes())
    write(project / "photos" / "more" / "red-0.png", (project / "data/red/004.png").read_bytes())
    write(project / "photos" / "broken.jpg", b"x")
    return project


def files(folder: Path) -> dict[str, bytes]:
    from conftest import tree

    return tree(folder)


def test_move_and_undo(photos: Path, imgclf: Run) -> None:
    """Every image goes to the folder of its label, none overwrites another, a second run moves nothing, undo restores all."""
    before = files(photos / "photos")
    done = imgclf("predict", "photos", "--jsonl", "--move-to", "photos/sorted")
    assert done.returncode == 1  # because of the broken image
    labels = {record["input"]: record["label"] for record in map(json.loads, done.stdout.splitlines())}
    assert len(labels) == 8
    assert "7 images into photos/sorted: blue 3, red 4" in done.stderr
    after = files(photos / "photos")
    assert sorted(after.values()) == sorted(before.values())
    assert {name for name in after if not name.startswith("sorted/")} == {"broken.jpg"}
    assert {"sorted/red/red-0.png", "sorted/red/red-0-2.png", "sorted/blue/blue-2.png"} <= set(after)
    again = imgclf("predict", "photos/sorted/red", "photos/sorted/blue", "--move-to", "photos/sorted")
    assert "no images in this folder" in again.stdout or "were there already" in again.stderr
    assert files(photos / "photos") == after
    done = imgclf("predict", "--undo", "photos/sorted")
    assert done.returncode == 0
    assert files(photos / "photos") == before
    assert imgclf("predict", "--undo", "photos").stderr.startswith("imgclf: error: ")


def test_undo_never_overwrites(photos: Path, imgclf: Run) -> None:
    imgclf("predict", "photos/red-1.png", "photos/red-2.png", "--move-to", "sorted")
    write(photos / "photos/red-1.png", b"new")
    done = imgclf("predict", "--undo", "sorted")
    assert done.returncode == 1
    assert "red-1.png exists already" in done.stderr
    assert (photos / "photos/red-1.png").read_bytes() == b"new"
    assert (photos / "sorted/red/red-1.png").read_bytes() == (photos / "data/red/001.png").read_bytes()
    assert (photos / "photos/red-2.png").exists()


def test_link_and_undo(photos: Path, imgclf: Run) -> None:
    """The images stay; a second run adds nothing; a link whose image is gone is not removed."""
    before = files(photos / "photos")
    for expected in ("7 images into sorted: blue 3, red 4", "0 images into sorted, 7 were there already"):
        done = imgclf("predict", "photos", "--link-to", "sorted")
        assert expected in done.stderr
        assert len(files(photos / "sorted")) == 7
    assert files(photos / "photos") == before
    (photos / "photos/red-1.png").unlink()
    done = imgclf("predict", "--undo", "sorted")
    assert done.returncode == 1
    assert list(files(photos / "sorted")) == ["red/red-1.png"]


def test_images_that_cannot_be_moved_are_named(photos: Path, imgclf: Run) -> None:
    (photos / "link.png").symlink_to("photos/red-0.png")
    shutil.make_archive(str(photos / "some"), "zip", photos / "photos" / "more")
    done = imgclf("predict", "link.png", "some.zip", "--move-to", "sorted", "--jsonl")
    assert done.returncode == 1
    assert "not placed link.png: a symbolic link" in done.stderr
    assert "not placed some.zip/red-0.png: not a separate file" in done.stderr
    assert [json.loads(line)["error"] for line in done.stdout.splitlines()] == [None, None]
    done = imgclf("predict", "photos", "--move-to", "runs/toy")
    assert "this is the folder of a run; choose another folder for the images" in done.stderr
    for options, words in (
        (["--move-to", "a", "--link-to", "b", "photos"], "give one of them"),
        (["--watch", "photos", "--json"], "use --jsonl"),
        (["--watch", "photos", "photos"], "; given: INPUT and --watch\n"),
        ([], "; given: none\n"),
        (["--stdin-image", "photos"], "; given: INPUT and --stdin-image\n"),
    ):
        done = imgclf("predict", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


class Killed(BaseException):
    pass


def test_a_kill_between_moves_loses_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed at every link and unlink after the plan is written; undo restores all files."""
    from imgclf.core.files import placing

    before = files(photos / "photos")
    names = [str(photos / "photos" / name) for name in before if name.startswith("red")]
    for instant in range(2 * len(names)):
        count = 0

        def killed(real: Callable[..., object], instant: int = instant) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal count
                count += str(arguments[0]).endswith(".png")
                if count > instant:
                    raise Killed
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            patched.setattr(os, "link", killed(os.link))
            patched.setattr(os, "unlink", killed(os.unlink))
            with pytest.raises(Killed):
                placing.place(photos / "sorted", [(name, "red") for name in names], "move")
        assert sorted(set((files(photos / "photos") | files(photos / "sorted")).values())) == sorted(set(before.values()))
        assert placing.undo(photos / "sorted")[1] == []
        assert files(photos / "photos") == before
        assert files(photos / "sorted") == {}
    with pytest.raises(ImgclfError, match="nothing was sorted into this folder, or all was taken back"):
        placing.undo(photos / "sorted")


def test_the_newest_operation_is_undone_first_whatever_its_number(photos: Path) -> None:
    """An image that operations 9999 and 10000 moved goes back to its first class folder, and from there to its origin."""
    from imgclf.core.files import placing

    photo, folder = photos / "photos/red-0.png", photos / "sorted"
    placing.place(folder, [(str(photo), "red")], "move")
    (folder / ".imgclf/journal/0001-predict.done.json").rename(folder / ".imgclf/journal/9999-predict.done.json")
    placing.place(folder, [(str(folder / "red/red-0.png"), "blue")], "move")
    assert (folder / "blue/red-0.png").exists()
    assert placing.undo(folder) == ([str(folder / "red/red-0.png"), str(photo)], [])
    assert photo.exists()


def test_clean_and_sorting_share_a_folder(photos: Path, imgclf: Run) -> None:
    """With images sorted into the data folder, each command undoes its own moves, in either order."""
    before, data = files(photos / "photos"), files(photos / "data")
    write(photos / "data/red/broken.png", b"x")
    assert imgclf("clean", "data").returncode == 0
    imgclf("predict", "photos", "--move-to", "data")
    assert imgclf("clean", "data", "--undo").returncode == 0
    assert imgclf("predict", "--undo", "data").returncode == 0
    assert files(photos / "photos") == before
    (photos / "data/red/broken.png").unlink()
    assert files(photos / "data") == data


def test_one_history_names_the_command_that_undoes(photos: Path, imgclf: Run) -> None:
    """A photo sorted into a data folder and then moved on by clean: each undo names the other where it must come first."""
    write(photos / "photos/the-same-again.png", (photos / "data/red/000.png").read_bytes())
    assert imgclf("predict", "photos/the-same-again.png", "--move-to", "data").returncode == 0
    assert imgclf("clean", "data").returncode == 0  # a duplicate of an image of the folder
    operations = json.loads(imgclf("clean", "data", "--history", "--json").stdout)
    assert [(one["number"], one["command"], len(one["moves"])) for one in operations] == [(1, "predict", 1), (2, "clean", 1)]
    assert operations[1]["moves"][0]["source"] == operations[0]["moves"][0]["target"] == "red/the-same-again.png"
    done = imgclf("predict", "--undo", "data")
    assert done.returncode == 1
    assert "data/red/the-same-again.png: operation 2 (clean) moved it again; undo that first" in done.stderr
    refused = imgclf("clean", "data", "--undo", "1")
    assert "no operation 1 to undo" in refused.stderr  # clean undoes its own
    assert imgclf("clean", "data", "--undo").returncode == 0
    assert imgclf("predict", "--undo", "data").stdout == f"{photos}/photos/the-same-again.png\n"


def test_undo_works_in_a_renamed_folder(photos: Path, imgclf: Run) -> None:
    """Undo in a copy of the folder leaves the images of the original folder where they are."""
    before = files(photos / "photos")
    imgclf("predict", "photos", "--move-to", "sorted")
    (photos / "sorted").rename(photos / "renamed")
    assert imgclf("predict", "--undo", "renamed").returncode == 0
    assert files(photos / "photos") == before
    imgclf("predict", "photos", "--move-to", "sorted")
    shutil.copytree(photos / "sorted", photos / "copy")
    kept = files(photos / "sorted")
    imgclf("predict", "--undo", "copy")
    assert files(photos / "sorted") == kept


def test_undo_leaves_changed_files_alone(photos: Path, imgclf: Run) -> None:
    """An edited image; a link moved by hand; the last copy, behind a linked folder; a plan that leads out of the folder."""
    imgclf("predict", "photos/red-1.png", "photos/red-2.png", "--move-to", "sorted")
    write(photos / "sorted/red/new.png", b"edited")
    os.replace(photos / "sorted/red/new.png", photos / "sorted/red/red-1.png")
    done = imgclf("predict", "--undo", "sorted")
    assert done.returncode == 1
    assert "sorted/red/red-1.png: another file is there now; it came from" in done.stderr
    assert (photos / "sorted/red/red-1.png").read_bytes() == b"edited"
    assert (photos / "photos/red-2.png").exists()
    imgclf("predict", "photos/blue-1.png", "--link-to", "links")
    (photos / "links/blue/blue-1.png").rename(photos / "links/mine.png")
    done = imgclf("predict", "--undo", "links")
    assert (done.returncode, (photos / "links/mine.png").exists()) == (1, True)
    assert "no longer there" in done.stderr
    (photos / "real").mkdir()
    (photos / "view").symlink_to("real")
    (photos / "one").mkdir()
    shutil.copy(photos / "photos/blue-0.png", photos / "one/a.png")
    imgclf("predict", "one", "--link-to", "view/sorted")
    shutil.rmtree(photos / "one")
    (photos / "one").symlink_to("real/sorted/blue")
    assert imgclf("predict", "--undo", "view/sorted").returncode == 1
    assert (photos / "real/sorted/blue/a.png").exists()
    write(
        photos / "evil/.imgclf/journal/0001-predict.done.json",
        json.dumps({"how": "move", "moves": [[f"{photos}/x", "../photos/red-0.png", "1 1 1"]]}).encode(),
    )
    done = imgclf("predict", "--undo", "evil")
    assert (done.returncode, (photos / "photos/red-0.png").exists()) == (1, True)
    assert "this journal is damaged ('..' is not the name of a file or folder)" in done.stderr


def test_the_file_that_was_classified_is_the_one_that_moves(photos: Path, imgclf: Run) -> None:
    """Its path may contain links and dots and may be given twice; a file named `stdin` is never moved for an image on stdin."""
    (photos / "real/deep").mkdir(parents=True)
    shutil.copy(photos / "photos/red-0.png", photos / "real/a.png")
    shutil.copy(photos / "photos/blue-0.png", photos / "a.png")
    (photos / "lnk").symlink_to("real/deep")
    done = imgclf("predict", "lnk/../a.png", "real", "--move-to", "out")
    assert "1 image into out: red 1, 1 were there already" in done.stderr
    assert (photos / "a.png").exists()
    assert not (photos / "real/a.png").exists()
    write(photos / "stdin", b"mine")
    done = imgclf("predict", "--stdin-image", "--move-to", "out", stdin=(photos / "a.png").read_bytes())
    assert (done.returncode, (photos / "stdin").exists()) == (2, True)
    done = imgclf("predict", "photos", "--move-to", "photos")
    assert done.returncode == 2
    assert "cannot be sorted into the folder that they come from" in done.stderr
    done = imgclf("predict", "photos", "--move-to", "photos/more/new/sorted", "--jsonl")
    assert len(done.stdout.splitlines()) == 8
    assert imgclf("predict", "--undo", "out", "--json").returncode == 2
