"""The page of `imgclf serve` in a real Chromium without a window: every way to give an image, and what is seen and heard."""

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import chromium, encoded, photo
from served import Server, served

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

SHOTS = os.environ.get("IMGCLF_SCREENSHOTS")  # a folder for the images of README
FLAGS = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(*FLAGS) as made:
        yield made


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    with served(trained / "runs" / "toy", cwd=trained) as one:
        yield one


class Seen:
    """A page, what it asked of the network, and what went wrong in it."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.grant_permissions(["camera"], origin=url.rstrip("/"))
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda line: self.wrong.append(line.text) if line.type == "error" else None)
        self.page.goto(url)
        self.url = url

    def text(self, name: str) -> str:
        return str(self.page.locator(f"#{name}").inner_text())

    def wait(self, name: str, pattern: str) -> None:
        playwright.expect(self.page.locator(f"#{name}")).to_have_text(re.compile(pattern), timeout=10_000)

    def upload(self, *files: tuple[str, bytes]) -> None:
        self.page.set_input_files(
            "#files", [{"name": name, "mimeType": "application/octet-stream", "buffer": content} for name, content in files]
        )

    def fits(self) -> bool:
        """Whether nothing reaches over the right edge."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.fixture
def seen(browser: Any, server: Server) -> Iterator[Seen]:
    one = Seen(browser, server.url)
    yield one
    one.context.close()
    assert all(url.startswith((server.url, "blob:")) for url in one.asked), one.asked  # nothing from anywhere else
    assert [line for line in one.wrong if "status of 422" not in line] == []  # no script error, nothing that the CSP blocked


def red(trained: Path, number: int = 0) -> bytes:
    return (trained / "data" / "red" / f"{number:03d}.png").read_bytes()


def shown(probability: float) -> str:
    text = f"{100 * probability:.1f}%"
    return ">99.9%" if text == "100.0%" and probability < 1 else "<0.1%" if text == "0.0%" and probability > 0 else text


def test_upload_shows_bars_history_and_says_it(seen: Seen, server: Server, trained: Path) -> None:
    seen.upload(("red one.png", red(trained)))
    expected = server.form([("x", red(trained))], "?top=3")[1][0]
    seen.wait("verdict", f"^{expected['label']}$")
    rows = seen.page.locator("#bars li")
    assert rows.count() == 3
    for row, pair in zip(rows.all(), expected["top"], strict=True):
        assert row.locator(".name").inner_text() == pair["label"]
        assert row.locator(".share").inner_text() == shown(pair["probability"])
        whole, part = (row.locator(what).bounding_box()["width"] for what in (".line", ".line i"))
        assert part == pytest.approx(max(2, whole * pair["probability"]), abs=whole * 0.5)  # it may still be growing
    assert seen.text("spoken").startswith(f"{expected['label']}. ")
    assert seen.page.locator("#shots button").get_attribute("aria-label") == f"red one.png: {expected['label']}"
    seen.upload(("a.png", red(trained, 1)), ("b.png", red(trained, 2)))
    playwright.expect(seen.page.locator("#shots button")).to_have_count(3)
    seen.page.locator("#shots button").last.click()
    assert seen.page.locator("#image").get_attribute("alt") == "red one.png"
    seen.page.locator("#clear").click()
    assert seen.text("verdict") == "No image yet"
    assert seen.page.locator("#history").is_hidden()


def test_the_card_has_names_and_figures_and_no_path(seen: Seen, trained: Path) -> None:
    seen.wait("card", "blue, green, red")
    text = seen.text("card")
    assert "95% interval" in text
    assert re.search(r"\d+ . \d+ pixels", text)
    assert str(trained) not in seen.page.content()


TRANSFER = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    if (name) transfer.items.add(new File([bytes], name)); else transfer.setData("text/uri-list", "https://example.org/a.jpg");
    return transfer;
}"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_drop_and_paste(seen: Seen, trained: Path, way: str) -> None:
    def give(name: str, content: bytes) -> None:
        transfer = seen.page.evaluate_handle(TRANSFER, [name, base64.b64encode(content).decode()])
        if way == "drop":
            for kind in ("dragenter", "dragover"):
                seen.page.dispatch_event("#frame", kind, {"dataTransfer": transfer})
            assert seen.page.locator(".dropping").is_visible()
            seen.page.dispatch_event("#frame", "drop", {"dataTransfer": transfer})
            assert seen.page.locator(".dropping").is_hidden()
        else:
            seen.page.evaluate(
                "(data) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))", transfer
            )

    give("", b"")
    seen.wait("problem", "nothing is fetched" if way == "drop" else "no image in the clipboard")
    give("one.png", red(trained))
    seen.wait("verdict", "^(red|green|blue)$")
    assert seen.page.locator("#problem").is_hidden()


def test_camera_photo_and_live(seen: Seen) -> None:
    page = seen.page
    page.click("#camera")
    playwright.expect(page.locator("#shoot")).to_be_focused()
    page.click("#live")
    seen.wait("rate", r"^[\d.]+ images/s$")
    seen.wait("verdict", "^(red|green|blue)$")
    assert page.locator("#live").get_attribute("aria-pressed") == "true"
    page.click("#live")
    assert page.locator("#rate").is_hidden()
    page.click("#shoot")
    playwright.expect(page.locator("#shots button")).to_have_count(1)
    seen.wait("verdict", "^(red|green|blue)$")
    assert page.locator("#video").is_hidden()
    page.click("#camera")
    playwright.expect(page.locator("#shoot")).to_be_focused()
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#camera")).to_be_focused()
    assert page.evaluate("document.getElementById('video').srcObject") is None  # the camera's light is off


def test_live_off_and_on_again_is_one_stream_of_frames(seen: Seen) -> None:
    """While an answer is awaited, which then finds the camera live and must not go on beside the new turn."""
    page, waiting = seen.page, []
    page.route("**/predict?*", lambda route: waiting.append(route))
    page.click("#camera")
    playwright.expect(page.locator("#shoot")).to_be_focused()
    for _click in range(3):
        page.click("#live")
        page.wait_for_timeout(200)
    assert len(waiting) == 2  # a frame of the first turn, and one of the second
    for route in waiting[:2]:
        route.continue_()
    page.wait_for_timeout(1000)
    assert len(waiting) == 3
    page.click("#stop")
    page.unroute_all(behavior="ignoreErrors")


def test_a_camera_that_is_taken_away_is_said(seen: Seen) -> None:
    page = seen.page
    page.click("#camera")
    playwright.expect(page.locator("#shoot")).to_be_focused()
    page.click("#live")
    page.evaluate("document.getElementById('video').srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    seen.wait("problem", "^The camera was disconnected.$")
    assert page.locator("#video").is_hidden()
    assert page.locator("#live").get_attribute("aria-pressed") == "false"


def test_the_focus_stays_on_an_image_of_the_session_when_another_comes(seen: Seen, trained: Path) -> None:
    page = seen.page
    seen.upload(("one.png", red(trained)), ("two.png", red(trained, 1)))
    playwright.expect(page.locator("#shots small").get_by_text("%")).to_have_count(2)
    page.locator("#shots button").last.focus()
    seen.upload(("three.png", red(trained, 2)))
    playwright.expect(page.locator("#shots small").get_by_text("%")).to_have_count(3)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("one.png: ")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("one.png: ")
    assert page.locator("#image").get_attribute("alt") == "one.png"


def test_a_camera_asked_for_twice_is_on_once(seen: Seen) -> None:
    page = seen.page
    page.evaluate("""() => {
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.given = [];
        navigator.mediaDevices.getUserMedia = async (wish) => {
            const stream = await ask(wish);
            await new Promise((done) => setTimeout(done, 300));  // as long as a person thinks about it
            window.given.push(...stream.getTracks());
            return stream;
        };
        document.getElementById("camera").click();
        document.getElementById("camera").click();
    }""")
    playwright.expect(page.locator("#shoot")).to_be_focused()
    page.wait_for_timeout(500)
    page.click("#stop")
    assert page.evaluate("window.given.map((track) => track.readyState)") == ["ended", "ended"]


def test_forget_all_while_an_answer_is_awaited(seen: Seen, trained: Path) -> None:
    """The answer does not come; what was added since stays."""
    page, waiting = seen.page, []
    page.route("**/predict?*", lambda route: route.continue_() if waiting else waiting.append(route))
    seen.upload(("one.png", red(trained)))
    playwright.expect(page.locator("#shots button")).to_have_count(1)
    page.click("#clear")
    seen.upload(("two.png", red(trained, 1)))
    seen.wait("verdict", "^(red|green|blue)$")
    waiting[0].fulfill(status=400, json={"error": "no"})
    seen.wait("problem", "^The server refused the request: no.$")
    assert page.locator("#shots button").get_attribute("aria-label").startswith("two.png: ")
    seen.wrong = [line for line in seen.wrong if "status of 400" not in line]


def test_where_the_model_looks(seen: Seen, trained: Path) -> None:
    seen.upload(("one.png", red(trained)))
    seen.wait("verdict", "^(red|green|blue)$")
    seen.page.click("#look")
    seen.wait("looked", "^The bright regions support ")
    assert seen.page.locator("#look").get_attribute("aria-pressed") == "true"
    assert "with saliency map" in seen.page.locator("#image").get_attribute("alt")
    assert seen.page.evaluate("document.getElementById('image').complete")
    seen.page.click("#look")
    assert seen.page.locator("#looked").is_hidden()


def test_what_is_no_image_is_said(seen: Seen, trained: Path) -> None:
    seen.upload(("page.jpg", b"<!doctype html><script>alert(1)</script>"))
    seen.wait("verdict", "^No prediction$")
    assert seen.text("sure") == "Not an image but an HTML page."
    seen.wait("unshown", "page.jpg: this browser cannot show the image")
    assert seen.text("spoken") == "page.jpg: not an image but an HTML page"
    seen.upload(("<img src=x onerror=alert(1)>.png", red(trained)))  # a name is text wherever it stands
    seen.wait("verdict", "^(red|green|blue)$")
    seen.upload(("scan.tif", encoded(photo(1), "TIFF")))  # the model reads what the browser does not
    seen.wait("unshown", "scan.tif: this browser cannot show the image")
    seen.wait("verdict", "^(red|green|blue)$")


def test_keyboard_alone(seen: Seen, trained: Path) -> None:
    page = seen.page
    choosers: list[Any] = []
    page.on("filechooser", lambda one: choosers.append(one))  # from the start: the browser must know that someone waits for it
    seen.wait("card", "red")
    names = []
    for _step in range(2):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id"))
    assert names == ["choose", "camera"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    for _wait in range(50):
        if choosers:
            break
        page.wait_for_timeout(100)
    choosers[0].set_files([{"name": "one.png", "mimeType": "image/png", "buffer": red(trained)}])
    seen.wait("verdict", "^(red|green|blue)$")
    for wanted in ("camera", "look"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == wanted
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Space")
    seen.wait("looked", "^The bright regions support ")


def test_every_control_has_a_name_and_every_image_a_text(seen: Seen, trained: Path) -> None:
    seen.upload(("one.png", red(trained)))
    seen.wait("verdict", "^(red|green|blue)$")
    nameless = seen.page.evaluate("""[...document.querySelectorAll("button, input, img, video, section")]
        .filter((one) => one.checkVisibility())
        .filter((one) => !one.innerText && !one.ariaLabel && !one.labels?.length && !one.hasAttribute("alt"))
        .map((one) => one.outerHTML)""")
    assert nameless == []
    assert seen.page.locator("#problem").get_attribute("role") == "alert"
    assert seen.page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert seen.page.locator("html").get_attribute("lang") == "en"
    assert seen.page.locator("h1").count() == 1


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red_, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red_ + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_sizes_and_schemes(browser: Any, server: Server, trained: Path, scheme: str, width: int) -> None:
    """No sideways scrolling, and text that stands out from its ground by 4.5 to 1, in light and dark."""
    seen = Seen(browser, server.url, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert seen.fits()
    seen.upload(*((f"a rather long name of a photograph {number}.png", red(trained, number)) for number in range(6)))
    playwright.expect(seen.page.locator("#shots button")).to_have_count(6)
    seen.wait("verdict", "^(red|green|blue)$")
    assert seen.fits()
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (_luminance(ground) > 0.5) == (scheme == "light")
    for name in ("verdict", "sure", "choose", "camera", "about"):
        ink, paper = seen.page.evaluate(
            """(name) => {
                const one = document.getElementById(name);
                let below = one;
                while (getComputedStyle(below).backgroundColor === "rgba(0, 0, 0, 0)") below = below.parentElement;
                return [getComputedStyle(one).color, getComputedStyle(below).backgroundColor];
            }""",
            name,
        )
        light, dark = sorted((_luminance(ink), _luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ink, paper)
    seen.page.click("#camera")
    playwright.expect(seen.page.locator("#shoot")).to_be_focused()
    assert seen.fits()
    seen.context.close()


def test_token_threshold_and_a_server_that_has_gone(browser: Any, trained: Path) -> None:
    with served(trained / "runs" / "toy", "--threshold", "1", cwd=trained, env={"IMGCLF_TOKEN": "sesame"}) as server:
        seen = Seen(browser, server.url)
        playwright.expect(seen.page.locator("#token")).to_be_focused()
        seen.page.fill("#token", "wrong")
        seen.page.keyboard.press("Enter")
        seen.wait("problem", "not the token of the server")
        seen.page.fill("#token", "sesame")
        seen.page.keyboard.press("Enter")
        seen.wait("card", "Unknown below")
        assert seen.page.locator("#door").is_hidden()
        seen.upload(("one.png", red(trained)))
        seen.wait("verdict", "^Unknown$")
        seen.wait("sure", "^The most likely class, (red|green|blue), has .*; the threshold is 100.0%")
    seen.upload(("two.png", red(trained, 1)))
    seen.wait("problem", "does not respond")
    seen.context.close()


@pytest.mark.skipif(SHOTS is None, reason="IMGCLF_SCREENSHOTS names no folder for them")
def test_screenshots(browser: Any, trained: Path) -> None:
    """For README; of another run and its photos if IMGCLF_SCREENSHOTS_RUN and IMGCLF_SCREENSHOTS_PHOTOS (files) say so."""
    folder = Path(SHOTS or "")
    folder.mkdir(parents=True, exist_ok=True)
    run = Path(os.environ.get("IMGCLF_SCREENSHOTS_RUN", trained / "runs" / "toy"))
    given = os.environ.get("IMGCLF_SCREENSHOTS_PHOTOS", "").split()
    files = [Path(name) for name in given] or [trained / "data" / name / "000.png" for name in ("blue", "green", "red")]
    with served(run, cwd=trained) as server:
        for scheme in ("light", "dark"):
            for width in (1280, 375):
                seen = Seen(browser, server.url, viewport={"width": width, "height": 860}, color_scheme=scheme)
                seen.wait("card", ".")

                def shot(name: str, page: Any = seen.page, scheme: str = scheme, width: int = width) -> None:
                    page.wait_for_timeout(400)  # until the bars have grown
                    page.screenshot(path=folder / f"serve-{name}-{width}-{scheme}.png", full_page=True)

                shot("empty")
                seen.upload(*((path.name, path.read_bytes()) for path in files))
                playwright.expect(seen.page.locator("#shots button")).to_have_count(len(files))
                playwright.expect(seen.page.locator("#busy")).to_be_hidden()
                shot("prediction")
                seen.page.click("#look")
                playwright.expect(seen.page.locator("#looked")).to_be_visible(timeout=30_000)
                shot("look")
                seen.upload(("page.jpg", b"<!doctype html>"))
                seen.wait("verdict", "^No prediction$")
                shot("error")
                seen.page.click("#camera")
                seen.page.click("#live")
                seen.wait("rate", "images/s")
                shot("live")
                seen.context.close()
