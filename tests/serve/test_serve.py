"""`imgclf serve` as a process of its own, asked over loopback: records, limits, hostile bodies, load, the end."""

import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiffs
from conftest import Run, bomb, encoded, photo, png_chunk
from PIL import Image
from served import Server, form, served

from imgclf.core import extras
from imgclf.serve import bodies
from imgclf.serve.meters import Meters


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    with served(trained / "runs" / "toy", cwd=trained) as one:
        yield one


def good(trained: Path) -> bytes:
    return (trained / "data" / "red" / "000.png").read_bytes()


def slow_image() -> bytes:
    """A JPEG that takes a noticeable time to decode: 30 megapixels, baseline, most of them alike."""
    return encoded(Image.new("RGB", (6000, 5000), (200, 30, 30)), quality=50)


# -- records ----------------------------------------------------------------------------------------------------------------


def test_records_are_those_of_predict(server: Server, trained: Path, imgclf: Run) -> None:
    names = ["data/red/000.png", "data/blue/003.png", "broken.jpg", 'ünï "code".png', "empty.png"]
    (trained / "broken.jpg").write_bytes(encoded(photo(1))[:300])
    (trained / names[3]).write_bytes(encoded(photo(2, 50, 70), "PNG"))
    (trained / "empty.png").write_bytes(b"")
    try:
        done = imgclf("predict", *names, "--jsonl", "--top", 2, "--run", "toy", cwd=trained)
        expected = [json.loads(line) for line in done.stdout.splitlines()]
        status, records = server.form([(name, (trained / name).read_bytes()) for name in names], "?top=2")
        assert status == 200
        assert records == expected
        assert [record["error"] is None for record in records] == [True, True, False, True, False]
    finally:
        for name in ("broken.jpg", names[3], "empty.png"):
            (trained / name).unlink()
    status, records = server.predict((trained / names[0]).read_bytes(), "?top=99")
    assert (status, len(records), records[0]["input"], len(records[0]["top"])) == (200, 1, "body", 3)
    assert records[0]["top"][:2] == expected[0]["top"]


def test_threshold_is_that_of_predict(trained: Path, imgclf: Run) -> None:
    name = "data/red/000.png"
    done = imgclf("predict", name, "--jsonl", "--threshold", "1", "--run", "toy", cwd=trained)
    with served(trained / "runs" / "toy", "--threshold", "1", cwd=trained) as server:
        assert server.form([(name, (trained / name).read_bytes())])[1] == [json.loads(done.stdout)]
        assert json.loads(done.stdout)["label"] == "unknown"
        assert json.loads(server.ask("GET", "/model")[2])["threshold"] == 1


def test_a_request_of_which_nothing_can_be_predicted_is_422(server: Server) -> None:
    status, records = server.form([("a.jpg", b"<html>"), ("b.jpg", b"%PDF-1.4")])
    assert status == 422
    assert [record["error"] for record in records] == [
        "not an image but an HTML page",
        "not an image but a PDF; export its pages as PNG, for example with pdftoppm",
    ]


def test_content_type_is_not_believed(server: Server, trained: Path) -> None:
    for kind in ("text/html", "application/x-www-form-urlencoded", "image/gif", "nonsense"):
        assert server.predict(good(trained), **{"Content-Type": kind})[0] == 200
    assert server.predict(b"<!doctype html>", **{"Content-Type": "image/png"})[0] == 422


def test_model_says_names_and_figures_and_no_path(server: Server, trained: Path) -> None:
    status, _headers, body = server.ask("GET", "/model")
    known = json.loads(body)
    assert status == 200
    assert known["classes"] == ["blue", "green", "red"]
    assert known["run"] == "toy"
    assert known["data"] == "data"
    low, high = known["accuracy"]["interval"]
    assert low <= known["accuracy"]["value"] <= high
    assert known["accuracy"]["baseline"]["class_name"] == "blue"
    assert str(trained) not in body.decode()


def test_explain_gives_an_image_in_the_photo_s_shape(server: Server, trained: Path) -> None:
    import io

    content = encoded(photo(3, 300, 200))
    status, headers, body = server.ask("POST", "/explain?label=red", content)
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(body)).size == (300, 200)
    assert server.ask("POST", "/explain?label=nobody", content)[0] == 400
    assert server.ask("POST", "/explain", b"<html>")[0] == 422
    two, kind = form([("a", content), ("b", content)])
    assert server.ask("POST", "/explain", two, {"Content-Type": kind})[0] == 400


def test_no_answer_shows_the_images_of_other_clients(server: Server) -> None:
    """Rows of them came back for an all-black TIFF of 16 bits in planes, of which only a third was decoded."""
    secret = np.full((600, 800, 3), 65535, np.uint16)
    secret[::40, :, 1:] = 0
    black = np.zeros((600, 800, 3), np.uint16)
    plain = server.ask("POST", "/explain?label=red", tiffs.written(tiffs.Layout("u16"), black))
    assert plain[0] == 200
    for _turn in range(3):
        for content in (tiffs.written(tiffs.Layout("u16"), secret), encoded(photo(3, 800, 600), "PNG")):
            assert server.predict(content)[0] == server.ask("POST", "/explain", content)[0] == 200
        answer = server.ask("POST", "/explain?label=red", tiffs.written(tiffs.Layout("u16", planar=True), black))
        assert (answer[0], answer[2]) == (200, plain[2])


# -- around the records -----------------------------------------------------------------------------------------------------


def test_openapi_matches_the_routes(server: Server) -> None:
    described = json.loads(server.ask("GET", "/openapi.json")[2])
    assert set(described["paths"]) == {"/predict", "/explain", "/model", "/healthz", "/readyz", "/metrics"}
    for path, methods in described["paths"].items():
        for method in methods:
            assert server.ask(method.upper(), path)[0] not in (404, 405), path
    record = described["components"]["schemas"]["Record"]
    assert record["required"] == list(server.predict(b"x")[1][0])


@pytest.mark.long
def test_requests_made_up_from_the_description_are_answered_as_it_says(server: Server, trained: Path) -> None:
    """Schemathesis: statuses, content types and bodies as described, nothing above 499, whatever is sent.

    Left out is the check that what fits the schema is accepted: a schema cannot say which bytes are an image.
    """
    command = Path(sys.executable).with_name("schemathesis")
    if not command.exists():
        pytest.skip("schemathesis is not installed")
    options = ["--max-examples", "25", "--max-time", "45", "--seed", "1", "--exclude-checks", "positive_data_acceptance"]
    done = subprocess.run(
        [command, "run", f"{server.url}openapi.json", *options, "--request-timeout", "30", "--no-color"],
        capture_output=True, text=True, cwd=trained, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert server.predict(good(trained))[0] == 200


def test_metrics_count_what_happens(trained: Path) -> None:
    with served(trained / "runs" / "toy", cwd=trained) as server:
        server.form([("a", good(trained)), ("b", b"no")])
        server.predict(b"no")
        server.ask("GET", "/nowhere")
        assert server.ask("GET", "/model/")[0] == 404
        text = server.ask("GET", "/metrics")[2].decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert found['imgclf_requests_total{route="/predict",status="200"}'] == "1"
    assert found['imgclf_requests_total{route="/predict",status="422"}'] == "1"
    assert found['imgclf_requests_total{route="other",status="404"}'] == "2"
    assert 'status="500"' not in text
    assert found['imgclf_images_total{result="predicted"}'] == "1"
    assert found['imgclf_images_total{result="failed"}'] == "2"
    assert found["imgclf_image_seconds_count"] == "3"
    assert found['imgclf_request_seconds_bucket{route="/predict",le="+Inf"}'] == "2"
    assert found["imgclf_queue_length"] == "0"
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+', line), line


def test_histograms_put_seconds_into_their_buckets() -> None:
    meters = Meters()
    for seconds in (0.005, 0.006, 0.3, 99):
        meters.image(False, seconds)
    lines = [line for line in meters.text().splitlines() if line.startswith("imgclf_image_seconds")]
    counts = {re.search(r'le="([^"]+)"', line)[1]: int(line.split()[-1]) for line in lines if "bucket" in line}  # type: ignore[index]
    assert (counts["0.005"], counts["0.01"], counts["0.25"], counts["0.5"], counts["10.0"], counts["+Inf"]) == (
        1,
        2,
        2,
        3,
        3,
        4,
    )
    assert lines[-2:] == ["imgclf_image_seconds_sum 99.311000", "imgclf_image_seconds_count 4"]


@pytest.mark.parametrize("path", ["/", "/serve.js", "/predict", "/model", "/nowhere", "/healthz"])
def test_every_answer_has_the_headers_of_a_careful_server(server: Server, path: str) -> None:
    headers = server.ask("GET", path)[1]
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_the_page_names_no_other_server_and_no_inline_script(server: Server) -> None:
    for path in ("/", "/serve.js", "/serve.css"):
        text = server.ask("GET", path)[2].decode()
        assert not re.search(r"(https?:)?//[a-z]", re.sub(r"\bdata:|// [^\n]*", "", text)), path
    page = server.ask("GET", "/")[2].decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)| on[a-z]+=|style=|javascript:", page)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", 200),
        ("localhost:1234", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_other_host_names_are_refused_on_loopback(server: Server, host: str, expected: int) -> None:
    assert server.ask("GET", "/model", headers={"Host": host})[0] == expected


def test_other_origins_are_refused(server: Server, trained: Path) -> None:
    assert server.predict(good(trained), Origin="https://evil.example")[0] == 403
    assert server.predict(good(trained), Origin="null")[0] == 403
    assert server.predict(good(trained), Origin="http://[")[0] == 403
    assert server.predict(good(trained), Origin=server.url.rstrip("/"))[0] == 200


def test_token(trained: Path) -> None:
    with served(trained / "runs" / "toy", cwd=trained, env={"IMGCLF_TOKEN": "sesame"}) as server:
        for path in ("/", "/serve.js", "/healthz", "/readyz"):
            assert server.ask("GET", path)[0] == 200, path
        for given in (
            {},
            {"Authorization": "Bearer sesam"},
            {"Authorization": "Basic sesame"},
            {"Authorization": "Bearer ü".encode("latin-1").decode("latin-1")},
        ):
            for method, path in (
                ("GET", "/model"),
                ("GET", "/metrics"),
                ("GET", "/openapi.json"),
                ("POST", "/predict"),
                ("POST", "/explain"),
            ):
                status, headers, body = server.ask(method, path, good(trained) if method == "POST" else None, given)
                assert (status, headers["www-authenticate"]) == (401, "Bearer"), path
                assert b"sesame" not in body
        assert server.ask("POST", "/predict", good(trained), {"Authorization": "bearer sesame"})[0] == 200


# -- limits and hostile bodies ----------------------------------------------------------------------------------------------


def huge_png() -> bytes:
    """A true PNG of 10,000 x 10,000 pixels in some hundred kilobytes."""
    size = (10_000).to_bytes(4, "big")
    rows = zlib.compress(bytes(10_001 * 10_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", size * 2 + bytes([8, 0, 0, 0, 0]))
        + png_chunk(b"IDAT", rows)
        + png_chunk(b"IEND", b"")
    )


def test_hostile_images_are_refused_soon_in_little_memory(server: Server, trained: Path) -> None:
    jpeg = encoded(photo(1, 400, 300))
    before = server.memory()
    hostile = {
        "bomb": bomb(), "10,000 x 10,000": huge_png(), "truncated": jpeg[: len(jpeg) // 2], "header alone": jpeg[:20],
        "html": b"<!doctype html><script>", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "zeros": bytes(100_000),
        "zip": b"PK\x03\x04" + bytes(64), "gif": b"GIF89a" + b"\xff" * 40, "tiff": b"II*\0" + b"\xff" * 64,
        "webp": b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(30), "avif": b"\0\0\0\x20ftypavif" + bytes(60), "one byte": b"\xff",
    }  # fmt: skip
    for name, content in hostile.items():
        start = time.monotonic()
        status, records = server.predict(content)
        assert (status, records[0]["label"]) == (422, None), name
        assert records[0]["error"], name
        assert time.monotonic() - start < 5, name
        assert server.predict(good(trained))[0] == 200, name
    assert "limit of 67 megapixels" in server.predict(huge_png())[1][0]["error"]
    assert server.memory() - before < 200


def test_limits_of_bytes_and_files(server: Server, trained: Path) -> None:
    over = b"\xff\xd8\xff" + bytes(bodies.MAX_FILE)
    status, records = server.form([("large.jpg", over), ("good.png", good(trained))])
    assert status == 200
    assert records[0]["error"] == f"{len(over):,} bytes, more than the limit of {bodies.MAX_FILE:,}"
    assert records[1]["error"] is None
    assert server.form([("x", b"x")] * (bodies.MAX_FILES + 1))[0] == 413
    assert server.predict(bytes(bodies.MAX_REQUEST + 1))[0] == 413
    assert server.predict(b"")[0] == 400
    for top in ("0", "-1", "x", "1.5", "", "9" * 400, "%00"):
        assert server.predict(good(trained), f"?top={top}")[0] == 400, top


def test_memory_for_bodies_is_given_back(server: Server) -> None:
    """More in turn, for good and bad ends, than may be held at once; a client that hangs up gives its part back too."""
    for _request in range(bodies.MAX_HELD // bodies.MAX_REQUEST + 2):
        assert server.predict(bytes(bodies.MAX_REQUEST))[0] == 422
        assert server.ask("POST", "/explain", bytes(bodies.MAX_REQUEST))[0] == 422
        with socket.create_connection(("127.0.0.1", server.port)) as one:
            one.sendall(f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {60 << 20}\r\n\r\n".encode())
            one.sendall(bytes(50 << 20))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x"),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nabc"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n--x--'),
        ("multipart/form-data; boundary=x", b"--x\r\nX: " + b"y" * 9000 + b"\r\n\r\nabc\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 1000),
        ("multipart/mixed; boundary=\"a b\"", b"--a b"),
    ],
)  # fmt: skip
def test_malformed_forms_are_400(server: Server, kind: str, body: bytes) -> None:
    status, _headers, answer = server.ask("POST", "/predict", body, {"Content-Type": kind})
    assert status == 400, answer
    assert set(json.loads(answer)) == {"error"}


def test_forms_are_read_as_the_email_package_reads_them() -> None:
    """Random contents full of delimiters and line ends, against the standard library's parser."""
    import email
    import email.policy
    import random

    choose = random.Random(0)
    pieces = [b"\r\n", b"--", b"------imgclf", b"-", b"\r", b"\n", b"x", b"\0", b"\xff", b"\r\n--", b"----imgclf-test-boundar"]
    for _round in range(200):
        files = [
            (f"f{number}.jpg", b"".join(choose.choices(pieces, k=choose.randint(0, 12))))
            for number in range(choose.randint(1, 4))
        ]
        body, kind = form(files)
        found = [(name, bytes(content)) for name, content in bodies.images(bytearray(body), kind)]
        assert found == files
        parsed = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP)
        assert [part.get_filename() for part in parsed.iter_parts()] == [name for name, _content in files]  # type: ignore[attr-defined]


def test_a_gigabyte_declared_is_refused_before_it_is_sent(server: Server) -> None:
    start, before = time.monotonic(), server.memory()
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {1 << 30}\r\n"
    assert server.raw(f"{head}\r\n".encode() + bytes(1000)).startswith(b"HTTP/1.1 413 ")
    assert server.raw(f"{head}Expect: 100-continue\r\n\r\n".encode()).startswith(b"HTTP/1.1 413 ")  # without "send on"
    assert time.monotonic() - start < 8
    assert server.memory() - before < 50


def test_chunks_without_a_length_are_counted(server: Server, trained: Path) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nTransfer-Encoding: chunked\r\n".encode()
    head += b"Connection: close\r\n\r\n"
    image = good(trained)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (image[:10], image[10:])) + b"0\r\n\r\n"
    assert server.raw(head + chunks).startswith(b"HTTP/1.1 200 ")
    before = server.memory()
    endless = (b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n") * 200
    start = time.monotonic()
    answer = server.raw(head + endless)
    assert answer.startswith(b"HTTP/1.1 413 ") or answer == b""  # it hung up on us while we were still sending
    assert time.monotonic() - start < 20
    assert server.memory() - before < 250
    assert server.predict(image)[0] == 200


def test_bytes_that_are_not_http(server: Server, trained: Path) -> None:
    for content in (
        b"\0" * 100,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
        b"\x16\x03\x01\x02\0\x01\0",
        b"GET / HTTP/9\r\n\r\n",
    ):
        assert server.raw(content)[:13] in (b"", b"HTTP/1.1 400 ")
    traversal = server.ask("GET", "/../../../../etc/passwd")
    assert traversal[0] == 404
    assert server.ask("GET", "/serve.js/../../scorecard.html")[0] == 404
    assert server.predict(good(trained))[0] == 200


def test_nothing_uploaded_touches_the_disk(trained: Path, tmp_path: Path) -> None:
    """Every file that the server opens, by an audit hook in its process, while forms of 40 MB come in and an image fails."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys\n"
        "out = os.dup(2)\n"  # imgclf sends what is written to descriptor 2 itself to nowhere
        "def heard(event, args):\n"
        "    opened = event == 'open' and not isinstance(args[0], int)\n"
        "    mode, flags = (args[1], args[2] or 0) if opened else ('', 0)\n"
        "    if isinstance(mode, str) and set(mode) & set('wax+') or flags & (os.O_WRONLY | os.O_RDWR):\n"
        "        os.write(out, f'WROTE {args[0]!r}\\n'.encode())\n"
        "    elif event.startswith(('tempfile.', 'os.mkdir', 'os.rename', 'os.link')):\n"
        "        os.write(out, f'WROTE {event} {args!r}\\n'.encode())\n"
        "sys.addaudithook(heard)\n"
        "os.write(2, b'HEARING\\n')\n"
    )
    env = {"PYTHONPATH": os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")]), "PYTHONDONTWRITEBYTECODE": "1"}
    large = encoded(photo(1, 3000, 2500), "BMP")
    with served(trained / "runs" / "toy", cwd=trained):
        pass  # that the model was tried is remembered on the disk
    with served(trained / "runs" / "toy", cwd=trained, env=env) as server:
        assert server.form([("a.bmp", large), ("b.bmp", large[: len(large) // 2])])[0] == 200
        assert server.predict(large)[0] == 200
        _code, err = server.end()
    assert "HEARING" in err
    assert "/dev/null" in err  # it was heard that imgclf opened it
    written = [line for line in err.splitlines() if line.startswith("WROTE") and "/dev/null" not in line]
    assert written == []


# -- time and load ----------------------------------------------------------------------------------------------------------


def test_a_slow_body_is_408_and_holds_nobody_up(trained: Path) -> None:
    with served(trained / "runs" / "toy", "--timeout", "1", cwd=trained) as server:
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 100000\r\n\r\n".encode()
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(20) as threads:
            waiting = [threads.submit(server.raw, head + b"\xff\xd8\xff") for _client in range(20)]
            assert server.predict(good(trained))[0] == 200
            assert time.monotonic() - start < 1
            assert all(one.result().startswith(b"HTTP/1.1 408 ") for one in waiting)
        assert time.monotonic() - start < 6


def test_a_full_queue_is_503_with_a_time_to_try_again(trained: Path) -> None:
    with served(trained / "runs" / "toy", "--queue", "2", cwd=trained) as server:
        slow = slow_image()
        with concurrent.futures.ThreadPoolExecutor(24) as threads:
            answers = list(threads.map(lambda _n: server.ask("POST", "/predict", slow), range(24)))
        statuses = [status for status, _headers, _body in answers]
        assert set(statuses) == {200, 503}
        refused = next(answer for answer in answers if answer[0] == 503)
        assert int(refused[1]["retry-after"]) >= 1
        assert "try again" in json.loads(refused[2])["error"]
        assert server.predict(good(trained))[0] == 200
        assert server.form([(f"{n}", good(trained)) for n in range(20)])[0] == 200  # more than there is room for, but alone
        assert server.ask("GET", "/readyz")[0] == 200


def test_what_takes_too_long_is_503(trained: Path) -> None:
    with served(trained / "runs" / "toy", "--timeout", "0.2", cwd=trained) as server:
        status, _headers, body = server.ask("POST", "/predict", form([(f"{n}", slow_image()) for n in range(16)])[0],
                                            {"Content-Type": form([])[1]})  # fmt: skip
        assert status == 503
        assert "within the time limit" in json.loads(body)["error"]
        until = time.monotonic() + 60  # the threads are busy with what was given up, and more so on a machine at work
        while (status := server.predict(good(trained))[0]) != 200 and time.monotonic() < until:
            time.sleep(0.2)
        assert status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_unfinished_requests_end(trained: Path, workers: int) -> None:
    with served(trained / "runs" / "toy", "--workers", workers, cwd=trained) as server:
        many, kind = form([(f"{n}", slow_image()) for n in range(8)])
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            under_way = threads.submit(server.ask, "POST", "/predict", many, {"Content-Type": kind})
            time.sleep(0.4)
            assert not under_way.done()
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(OSError):
                server.ask("GET", "/healthz", timeout=2)
            status, _headers, body = under_way.result()
        assert status == 200
        assert len(json.loads(body)) == 8
        assert server.process.wait(timeout=20) == 0


def test_ctrl_c_is_130(trained: Path) -> None:
    with served(trained / "runs" / "toy", cwd=trained) as server:
        assert server.end(signal.SIGINT) == (130, "interrupted\n")


def test_many_clients_get_right_answers(server: Server, trained: Path) -> None:
    """Sixteen connections at once, each with requests one after the other; every answer is that of its own image."""
    paths = sorted((trained / "data").rglob("*.png"))
    expected = {path: server.predict(path.read_bytes())[1] for path in paths[:12]}

    def client(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for step in range(10):
            path = paths[(number + step) % 12]
            connection.request("POST", "/predict", path.read_bytes())
            assert json.loads(connection.getresponse().read()) == expected[path]
        connection.close()
        return 10

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(client, range(16))) == 160


# -- the command ------------------------------------------------------------------------------------------------------------


def test_errors_are_one_line(trained: Path, imgclf: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = imgclf("serve", "toy", "--port", taken.getsockname()[1], cwd=trained)
    assert done.returncode == 1
    assert re.fullmatch(
        r"imgclf: error: cannot listen on 127.0.0.1 port \d+: [A-Z][a-z ]+; give another --port .*\n", done.stderr
    )
    done = imgclf("serve", "toy", "--host", "a..b", "--token", "x", cwd=trained)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("imgclf: error: cannot listen on a..b port 8000: ")
    assert done.stderr.endswith("; give --host a name or address of this machine\n")
    for token in ("from a file\n", " ", "schlüssel", "a\tb"):  # which no request could bring
        done = imgclf("serve", "toy", cwd=trained, env={**os.environ, "IMGCLF_TOKEN": token})
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), token
        assert done.stderr.startswith("imgclf: error: --token or IMGCLF_TOKEN: give ASCII letters"), token
    assert imgclf("serve", "nothing", cwd=trained).returncode == 1
    assert imgclf("serve", "toy", "--threshold", "2", cwd=trained).returncode == 2
    assert imgclf("serve", "toy", "--port", "99999", cwd=trained).returncode == 2


def test_the_missing_extra_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError(\"No module named 'uvicorn'\")")
    code = "import sys; sys.path.insert(0, sys.argv.pop()); from imgclf.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "serve", "toy", tmp_path], capture_output=True, text=True, cwd=trained)
    assert done.returncode == 1
    assert done.stderr == (
        "imgclf: error: serve needs packages that are not installed (No module named 'uvicorn'); "
        f"run: {extras.command('serve')}\n"
    )


def test_a_broken_model_is_one_line(trained: Path, tmp_path: Path, imgclf: Run) -> None:
    shutil.copytree(trained / "runs" / "toy", tmp_path / "toy")
    (tmp_path / "toy" / "model.tflite").write_bytes(b"x")
    done = imgclf("serve", tmp_path / "toy")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "model.tflite: broken run" in done.stderr


def test_other_machines_are_let_in_with_a_warning(trained: Path) -> None:
    with served(trained / "runs" / "toy", "--host", "0.0.0.0", cwd=trained) as server:
        assert server.ask("GET", "/model", headers={"Host": "photos.example"})[0] == 200
        _code, err = server.end()
    assert "without --token: any machine that can reach this one can use it; add --token" in err
    with served(trained / "runs" / "toy", "--host", "0.0.0.0", "--token", "x", cwd=trained) as server:
        assert server.end() == (0, "")
