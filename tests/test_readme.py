"""Test the outputs in README: every line must match a line that the command prints here for other images."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import bomb, encoded, write
from PIL import Image
from planted import scene

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def transcripts() -> dict[str, list[str]]:
    """Return the output after each `$ command` of an indented block, up to the end of the block or the next command."""
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


SCALE = 25  # README's data set has this many times the images of the one made here
NUMBER = re.compile(r"[+-]?\d[\d.,x:]*(?:e-\d+)?%?")
# Lines with numbers that depend on the machine, the size of the images, the progress of a training, or rounding.
MEASURED = re.compile(r"^best epoch|\d x \d|\dx\d|parameters|\bMB\b|\bms\b|\d:\d\d$|probability difference")


def words(text: str) -> str:
    """Remove everything that depends on the images: names of files, classes and runs, and the width of columns."""
    text = re.sub(r"runs/\S+|data/\.imgclf\S*|https?://\S+", "PLACE", text)
    text = re.sub(r"(cats|dogs)/[^\s:'`]+( \(1\)\.jpg)?(\S*…)?", "FILE", text)
    text = re.sub(r"\b(cats|dogs)\b", "CLASS", text).replace("*", "")
    return re.sub(r"\s+", " ", text).strip(" .…")


def values(number: str) -> tuple[list[float], int]:
    """Parse `1,401`, `328x251`, `2:44` or `0.8300`; return the numbers and the count of decimals (at most 6, as in JSON)."""
    parts = [part.strip(".").replace(",", "") for part in re.split("[x:]", number.rstrip("%.,:"))]
    return [float(part) for part in parts if part], max(min(6, len(part.partition(".")[2])) for part in parts)


def is_near(shown: str, printed: str, *, measured: bool) -> bool:
    """Whether a number in README is near a printed one, which is for fewer and other images.

    Scores and losses differ by at most 0.6 and have the same number of decimals. Counts below ten are equal; larger ones are
    SCALE times the printed count, within eight images of the small set or a third. Measured values differ by at most a factor
    of SCALE.
    """
    (shown_values, decimals), (printed_values, printed_decimals) = values(shown), values(printed)
    if len(shown_values) != len(printed_values) or shown.endswith("%") != printed.endswith("%"):
        return False
    for one, other in zip(shown_values, printed_values, strict=True):
        as_score = decimals == printed_decimals > 0 and abs(one - other) <= 0.6
        as_fraction = shown.endswith("%") and abs(one - other) <= 20
        as_count = decimals == printed_decimals == 0 and one >= 10 and abs(one - SCALE * other) <= max(8 * SCALE, one / 3)
        as_measured = measured and one <= SCALE * max(other, 1) and other <= SCALE * max(one, 1)
        if not (one == other or as_score or as_fraction or as_count or as_measured):
            return False
    return True


def is_printed(line: str, printed: str) -> bool:
    """Whether the printed text contains a line of README, with equal words and near numbers."""
    shown = words(line)
    wanted = f"({NUMBER.pattern})".join(map(re.escape, NUMBER.split(shown)))
    measured = bool(MEASURED.search(line))
    return any(
        all(is_near(one, other, measured=measured) for one, other in zip(NUMBER.findall(shown), found.groups(), strict=True))
        for found in re.finditer(rf"(?<!\S){wanted}", words(printed))
    )


@pytest.fixture(scope="module")
def printed_outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Make a smaller folder like that of README and run its commands; return the folder and the outputs."""
    root = tmp_path_factory.mktemp("printed_outputs")
    data, seeds = root / "data", iter(range(1000))

    def jpeg(**options: object) -> bytes:
        return encoded(scene(next(seeds), 96, 72), "JPEG", **options)

    # Three in four have the colour of their class, so that a network makes some errors, as in README.
    colours = Image.new("RGB", (96, 72), "orange"), Image.new("RGB", (96, 72), "teal")
    for number in range(80):
        which, of_class = divmod(number, 40)
        label, colour = ("cats", "dogs")[which], colours[which if of_class % 4 else 1 - which]
        pixels = Image.blend(scene(next(seeds), 96, 72), colour, 0.4)
        write(data / label / f"{label[:-1]}.{of_class}.jpg", encoded(pixels, quality=90))
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
    write(data / "dogs" / "dog.180.jpg", encoded(Image.open(data / "dogs" / "dog.5.jpg").resize((80, 60)), quality=70))
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


# Lines of README that depend on the images or the processor, by their beginnings.
MACHINE_DEPENDENT = {"imgclf train --epochs 20": ("a pretrained network is better", "bfloat16: this CPU")}


@pytest.mark.parametrize("command", [one for one in transcripts() if one != "imgclf serve"])
def test_what_readme_shows_is_what_the_command_prints(command: str, printed_outputs: tuple[Path, dict[str, str]]) -> None:
    _root, printed = printed_outputs
    lines = [line for line in transcripts()[command] if line.strip() not in ("", "...")]
    assert len(lines) >= 2
    skipped = MACHINE_DEPENDENT.get(command, ())
    missing = [line for line in lines if not line.strip().startswith(skipped) and not is_printed(line, printed[command])]
    assert not missing, "\n".join(missing) + "\n\nis not near to\n\n" + printed[command]


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("broken 6 quarantined", "broken 6 quarantined", True),
        ("broken 6 quarantined", "broken 66 quarantined", False),
        ("accuracy 0.8333, loss 0.3718", "accuracy 0.5385, loss 0.6931", True),
        ("accuracy 0.8333, loss 0.3718", "accuracy 83.33, loss 0.6931", False),
        ("accuracy 0.8333", "accuracy 0.83", False),
        ("cats 1,000 50.0%", "cats 43 48.9%", True),
        ("cats 1,000 50.0%", "cats 43 0.489%", False),
        ("all 1,401 300 300 2,001", "all 61 14 13 88", True),
        ("all 1,401 300 300 2,001", "all 61 14 13 8,800", False),
        ("6 convolutions, 1,128,929 parameters", "6 convolutions, 288,481 parameters", True),
        ("6 convolutions, 1,128,929 parameters", "6 convolutions, 288 parameters", False),
        ("0 ignored", "0 ignored", True),
        ("0 ignored", "1 ignored", False),
    ],
)
def test_numbers_of_readme_are_near_or_not(shown: str, printed: str, expected: bool) -> None:
    assert is_printed(shown, printed) is expected
