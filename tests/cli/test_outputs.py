"""Nothing that imgclf writes becomes part of a data folder; hints are commands on the folder that they are about."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import make_classes, photo, write
from typer.testing import CliRunner

from imgclf.cli.app import app
from imgclf.core.errors import ImgclfError
from imgclf.core.files.state_folder import check_outside, command
from imgclf.images import preprocess


@pytest.mark.parametrize("place", ["data/out", "data/red/out", "linked/out"])
def test_no_command_writes_into_the_data(place: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own in there would be a class from then on; nothing is made before it is refused."""
    (project / "linked").symlink_to("data")
    monkeypatch.chdir(project)
    before = sorted(project.rglob("*"))
    image = "data/red/000.png"
    for words in (
        ["explain", image, "--out", place],
        ["predict", image, "--link-to", place],
        ["predict", image, "--move-to", place],
        ["export", "--out", f"{place}.tflite"],
        ["preview", "--out", f"{place}.png"],
        ["preview", "--html", f"{place}.html"],
        ["preview", "--histograms", f"{place}.png"],
        ["clean", "--dry-run", "--report", f"{place}.csv"],
        ["clean", "--dry-run", "--html", f"{place}.html"],
        ["audit", "--report", f"{place}.csv"],
        ["audit", "--html", f"{place}.html"],
        ["evaluate", "--html", f"{place}.html"],
        ["split", "--export", place],
        ["train", "--run-dir", place],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code in (1, 2), words
        assert f"is inside the data folder {project / 'data'} and would become part of the data; choose a place" in done.stderr
        assert done.stderr.count("\n") == 1
        assert (project / image).exists()
    after = [path for path in sorted(project.rglob("*")) if ".imgclf" not in path.parts]
    assert after == [path for path in before if ".imgclf" not in path.parts]


def test_another_data_folder_is_known_by_its_split(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the run was trained on another one; below a name with a dot, and in the folder itself, there is no class to be."""
    make_classes(project / "other", {"a": 8, "b": 8}, size=8)
    write(project / "new.png", preprocess.encode(np.asarray(photo(1)), ".png"))
    monkeypatch.chdir(project)
    assert CliRunner().invoke(app, ["split", "other"]).exit_code == 0
    for words in (["explain", "new.png", "--out", "other/explained"], ["predict", "new.png", "--link-to", "other/sorted"]):
        done = CliRunner().invoke(app, words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"is inside the data folder {project / 'other'}" in done.stderr
    monkeypatch.chdir(project / "other")
    done = CliRunner().invoke(app, ["explain", "../new.png", "--run", "../runs/toy"])
    assert done.stderr.startswith("imgclf: error: explained")
    assert f"is inside the data folder {project / 'other'}" in done.stderr
    assert not (project / "other/explained").exists()
    monkeypatch.chdir(project)
    assert CliRunner().invoke(app, ["predict", "new.png", "--link-to", "data/.sorted"]).exit_code == 0
    assert CliRunner().invoke(app, ["predict", "new.png", "--link-to", "data"]).exit_code == 0
    check_outside(project / "data/.imgclf/x/y.png", "--out", project / "data")
    with pytest.raises(ImgclfError, match="choose a place outside it for --out"):
        check_outside(project / "data/x", "--out", project / "data")


def hinted(text: str) -> list[str]:
    """The words of the command that a message ends in."""
    found = re.findall(r"`(imgclf [^`]+)`", text)
    assert found, text
    return shlex.split(found[-1])[1:]


def test_hints_name_the_folder_and_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pasted works on the folder that the message is about, from here; no share is less than the usual one."""
    place = "my photos' -x"
    make_classes(tmp_path / place, {"a": 12, "b": 12}, size=32)
    monkeypatch.chdir(tmp_path)
    run = lambda *words: CliRunner().invoke(app, words)  # noqa: E731
    done = run("preview", place, "--split", "val", "--html", "x.html")
    assert hinted(done.stderr) == ["split", place]
    done = run("split", place, "--check")
    assert hinted(done.stderr) == ["split", place]
    done = run("train", place, "--fold", "1")
    assert hinted(done.stderr) == ["split", place, "--folds", "5"]
    done = run(*hinted(done.stderr))
    assert done.exit_code == 0
    assert hinted(done.stderr) == ["train", place, "--fold", "1"]
    assert shlex.split(command("split", Path("-x")).strip("`")) == ["imgclf", "split", "./-x"]


def test_a_subset_without_an_image_asks_for_a_larger_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the usual 0.7 and 0.15."""
    from imgclf.core.config import SUBSETS
    from imgclf.data import prepared_images
    from imgclf.split import splitting
    from imgclf.train import setup

    monkeypatch.chdir(tmp_path)
    make_classes(Path("photos"), {"a": 12, "b": 12}, size=32)
    for empty in ("train", "val"):
        subsets = {subset: {} if subset == empty else {"a/1": "a/1", "b/1": "b/1"} for subset in ("train", "val")}
        prepared = prepared_images.Prepared(Path(), None, ("a", "b"), (), 0, subsets)  # type: ignore[arg-type]
        with pytest.raises(ImgclfError, match="has no usable") as raised:
            setup._check_subsets(Path("photos"), prepared)
        words = hinted(str(raised.value))
        assert words[:3] == ["split", "photos", f"--{empty}"]
        usual = dict(zip(SUBSETS, (0.7, 0.15, 0.15), strict=True))
        assert float(words[3]) > usual[empty]  # type: ignore[index]
        assert CliRunner().invoke(app, words).exit_code == 0
        counts = [
            sum(row.split == subset for row in splitting.current_split(Path("photos")).manifest.rows) for subset in SUBSETS
        ]
        assert min(counts) > 0
