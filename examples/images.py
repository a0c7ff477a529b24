"""Write one HTML page with all plots of a run:

    python examples/images.py DATA RUN FOLDER

The page FOLDER/images.html contains the contact sheet, histograms, the issues found by clean, curves, confusion matrix,
calibration, the report, a saliency map, and the page of `imgclf serve` with an image. Each image is also a file in FOLDER.
Nothing in DATA is moved. Screenshots need Playwright (`pip install playwright`) and Chromium, and are skipped without them.
"""

import base64
import contextlib
import html
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMGCLF = [sys.executable, "-m", "imgclf"]
STYLE = (
    "body{font:16px/1.5 sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}img{max-width:100%;border:1px solid #ccc}"
)


def imgclf(*words: object) -> str:
    print("imgclf", *words, file=sys.stderr)
    return subprocess.run([*IMGCLF, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser; None if Playwright or Chromium is missing."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        print("no Playwright or no Chromium: the screenshots of pages are skipped", file=sys.stderr)
        yield None
        return
    try:
        engine = sync_playwright().start()
    except Exception as error:  # for example, its driver lacks a system library
        print(f"Playwright does not start ({error}): the screenshots of pages are skipped", file=sys.stderr)
        yield None
        return
    browser = engine.chromium.launch(executable_path=program, args=["--no-sandbox"])
    yield browser
    browser.close()
    engine.stop()


@contextlib.contextmanager
def served(run: Path) -> Iterator[str]:
    """Run `imgclf serve` during the block; yield its address."""
    process = subprocess.Popen([*IMGCLF, "serve", run, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip() if process.stdout else ""
    finally:
        process.terminate()
        process.wait()


def draw(data: Path, run: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Make all images; yield the caption and the file of each."""
    imgclf("preview", data, "--out", folder / "sheet.png", "--histograms", folder / "histograms.png", "--no-strip")
    yield f"imgclf preview {data}: one row of samples per class", folder / "sheet.png"
    yield f"imgclf preview {data} --histograms histograms.png", folder / "histograms.png"
    imgclf("clean", data, "--dry-run", "--html", folder / "found.html")
    imgclf("evaluate", "--run", run, "--html", folder / "report.html")
    files = [path for path in sorted(data.rglob("*.*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    photo = next(path for path in files if not any(name.startswith(".") for name in path.relative_to(data).parts))
    imgclf("explain", photo, "--run", run, "--out", folder / "explained")
    with chromium() as browser:
        if browser:
            page = browser.new_page(viewport={"width": 1100, "height": 900})
            page.goto((folder / "found.html").resolve().as_uri())
            page.screenshot(path=folder / "found.png")
            yield f"imgclf clean {data} --dry-run --html found.html: the page to decide on", folder / "found.png"
        for name, words in (
            ("curves", "loss and accuracy by epoch"),
            ("confusion-test", "confusion matrix"),
            ("calibration-test", "reliability diagram, and accuracy by coverage"),
        ):
            if (run / f"{name}.png").exists():
                shutil.copy(run / f"{name}.png", folder)
                yield f"{words[0].upper()}{words[1:]}", folder / f"{name}.png"
        if browser:
            page.goto((folder / "report.html").resolve().as_uri())
            page.screenshot(path=folder / "report.png", full_page=True)
            yield f"imgclf evaluate --run {run} --html report.html", folder / "report.png"
        yield f"imgclf explain {photo}: saliency map", next((folder / "explained").glob("*.png"))
        if browser:
            with served(run) as address:
                page.goto(address)
                page.set_input_files("input[type=file]", photo)
                page.wait_for_selector("#shots button")
                page.wait_for_timeout(1500)  # until the animation of the bars has ended
                page.screenshot(path=folder / "serve.png")
            yield f"imgclf serve {run}", folder / "serve.png"


def main(data: Path, run: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(run.name)}</title><style>{STYLE}</style>'
    ]
    lines.append(f"<h1>{html.escape(run.name)}</h1>")
    for words, image in draw(data, run, folder):
        content = base64.b64encode(image.read_bytes()).decode()
        lines.append(f'<h2>{html.escape(words)}</h2><img alt="{html.escape(words)}" src="data:image/png;base64,{content}">')
    (folder / "images.html").write_text("\n".join([*lines, "</html>\n"]), "utf-8")
    print(folder / "images.html")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
