"""The outputs that README shows: every line has the form of one that the command prints here, of other pictures."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import bomb, encoded, write
from planted import scene

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def transcripts() -> dict[str, list[str]]:
    """What follows each `$ command` of an indented block, up to the first line that ends the block or shows other commands."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in README.splitlines():
        if line.startswith("    $ "):
            lines = found.setdefault(line[6:], [])
        elif lines is not None and line.startswith("    ") and not line.startswith("    imgclf "):
            lines.append(line[4:])
        elif line.strip():
            lines = None
    return found


def form(line: str) -> str:
    """A line without what depends on the pictures: numbers, file and class names, a run's name, how wide a column is."""
    line = re.sub(r"runs/\S+|data/\.imgclf\S*|https?://\S+", "PLACE", line)
    line = re.sub(r"(cats|dogs)/[^\s:'`]+( \(1\)\.jpg)?(\S*…)?", "FILE", line)
    line = re.sub(r"[+-]?\d[\d.,x:]*(e-\d+)?(-bit)?%?\*?", "0", line)
    line = re.sub(r"\b(cats|dogs)\b", "CLASS", line)
    return re.sub(r"\s+", " ", line).strip(" .…")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder like README's, smaller, and what each of its commands printed there on a terminal's width."""
    root = tmp_path_factory.mktemp("story")
    data, seeds = root / "data", iter(range(1000))

    def jpeg(**options: object) -> bytes:
        return encoded(scene(next(seeds), 96, 72), "JPEG", **options)

    for label in ("cats", "dogs"):
        for number in range(40):
            write(data / label / f"{label[:-1]}.{number}.jpg", jpeg(quality=90))
    write(data / "cats" / "empty.jpg", b"")
    write(data / "cats" / "page.jpg", b"<!doctype html><html></html>")
    write(data / "cats" / "truncated.jpg", jpeg()[:900])
    write(data / "cats" / "cat.100", jpeg())
    write(data / "cats" / "web.jpg", encoded(scene(next(seeds), 96, 72), "WEBP"))
    write(data / "cats" / "cat.7 (1).jpg", (data / "cats" / "cat.7.jpg").read_bytes())
    flipped = bytearray(encoded(scene(next(seeds), 96, 72), "PNG"))
    flipped[len(flipped) // 2] ^= 16
    write(data / "dogs" / "bitflip.png", bytes(flipped))
    write(data / "dogs" / "bomb.png", bomb())
    write(data / "dogs" / "notes.txt", b"remember the milk")
    write(data / "dogs" / "dog.100.png", jpeg())
    write(data / "dogs" / "scan.jpeg", encoded(scene(next(seeds), 96, 72), "TIFF"))
    write(data / "dogs" / "cat.9.jpg", (data / "cats" / "cat.9.jpg").read_bytes())
    grey = scene(next(seeds), 96, 72).convert("L")
    write(data / "dogs" / "dog.943.jpg", encoded(grey))
    write(data / "dogs" / "dog.180.jpg", encoded(scene(45, 96, 72).resize((80, 60)), quality=70))
    write(data / "cats" / "cat.241.jpg", encoded(scene(next(seeds), 96, 72).resize((8, 6)).resize((96, 72)), quality=90))
    shutil.copy(data / "cats" / "cat.1.jpg", root / "img.jpg")
    environment = {**os.environ, "COLUMNS": "80"}
    printed = {}
    for command in transcripts():
        words = command.split()[1:]
        if words[0] == "serve":
            continue
        if words[0] == "train":
            words = ["train", "--epochs", "20", "--image-size", "32", "--time-budget", "1h"]
        done = subprocess.run(
            [sys.executable, "-m", "imgclf", *words], cwd=root, env=environment, capture_output=True, text=True, timeout=300
        )
        printed[command] = done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    return root, printed


# Lines of README that depend on what a picture shows, on the processor or on chance, and how they are said there.
ELSEWHERE = {"imgclf train --epochs 20": ("a pretrained network would do better", "bfloat0 this processor")}


@pytest.mark.parametrize("command", [one for one in transcripts() if one != "imgclf serve"])
def test_what_readme_shows_is_what_the_command_prints(command: str, story: tuple[Path, dict[str, str]]) -> None:
    _root, printed = story
    whole = form(" ".join(printed[command].splitlines()))  # where a line breaks depends on how long the numbers are
    lines = [line for line in transcripts()[command] if line.strip() not in ("", "...")]
    assert len(lines) >= 2
    missing = [line for line in lines if form(line) not in whole and not form(line).startswith(ELSEWHERE.get(command, "\0"))]
    assert not missing, "\n".join(missing) + "\n\nis not of the form of\n\n" + printed[command]
