"""What the server answers: routes, and the guard before them."""

import asyncio
import functools
import hmac
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import imgclf
from imgclf import evaluations
from imgclf.answers import Prediction, answer, look
from imgclf.base.config import ServeConfig
from imgclf.base.errors import ImageError, ImgclfError
from imgclf.base.names import nfc
from imgclf.base.writing import json_text
from imgclf.bundle import Bundle
from imgclf.pixels import images
from imgclf.pixels.sources import Source
from imgclf.serve import bodies, schema
from imgclf.serve.bodies import Gone, Refused, Room
from imgclf.serve.meters import Meters
from imgclf.serve.pool import Pool
from imgclf.serve.server import is_loopback

MAX_PIXELS = 1 << 26  # of one picture, from its header: 67 megapixels, 200 MB of RGB a thread
SHOWN = 640  # pixels of the longer side of the picture that /explain sends back
LOOKS = 8  # requests to /explain that may wait; they take sixty times as long as a prediction, on a thread of their own

_PAGE = Path(__file__).parent.parent / "display" / "page"
_FILES = {
    "/": ("serve.html", "text/html; charset=utf-8"),
    "/serve.css": ("serve.css", "text/css; charset=utf-8"),
    "/serve.js": ("serve.js", "text/javascript; charset=utf-8"),
    "/serve.svg": ("serve.svg", "image/svg+xml"),
}
_OPEN = {*_FILES, "/healthz", "/readyz"}  # without the token: nothing about the run is in them
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
_log = logging.getLogger("imgclf.serve")


class Service:
    """A run and what answers for it. stopping: set when the server no longer takes requests."""

    def __init__(self, bundle: Bundle, config: ServeConfig, threads: int, meters: Meters | None = None) -> None:
        self.bundle, self.config = bundle, config
        self.meters = meters or Meters()
        self.pool = Pool(threads, config.queue, self.meters.queue)
        self.lookers = Pool(1, LOOKS)
        self.room = Room()
        self.stopping = False

    def warm(self) -> None:
        """Load the network on every thread; raises ImgclfError for one that does not load."""
        recipe = self.bundle.recipe
        blank = np.zeros((recipe.height, recipe.width, 3), np.uint8)
        self.pool.warm(lambda: self.bundle.probability(blank))

    def close(self) -> None:
        self.pool.close()
        self.lookers.close()

    def app(self) -> App:
        """The ASGI application."""
        routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
        routes += [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/explain", self.explain, methods=["POST"]),
            Route("/model", self.model),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]
        handlers: Any = {Refused: _refused, HTTPException: _no_route, Gone: _gone, Exception: _failed}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False  # `/model/` is no address of ours: 404, as any other
        return Guard(app, self.config, self.meters)

    async def predict(self, request: Request) -> Response:
        top = self._top(request)
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        if self.pool.is_full:
            raise Refused(503, "too many pictures are waiting; try again in a second", wait=1)
        body = await self.room.read(request.receive, request.headers, deadline)
        try:
            found = bodies.pictures(body, request.headers.get("content-type", ""))
            jobs = [functools.partial(self._answer, name, content, top) for name, content in found]
            records = await self.pool.run(jobs, deadline)
        finally:
            self.room.free(body)
        status = 200 if any(record.error is None for record in records) else 422
        return _json([record.to_dict() for record in records], status)

    async def explain(self, request: Request) -> Response:
        label = request.query_params.get("label")
        label = None if label is None else nfc(label)
        if label is not None and label not in self.bundle.class_names:
            raise Refused(400, "label: no such class; /model lists them")
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        body = await self.room.read(request.receive, request.headers, deadline)
        try:
            found = bodies.pictures(body, request.headers.get("content-type", ""))
            if len(found) != 1:
                raise Refused(400, "give one picture")
            try:
                picture = (await self.lookers.run([functools.partial(self._look, found[0][1], label)], deadline))[0]
            except ImageError as error:
                raise Refused(422, str(error)) from None
        finally:
            self.room.free(body)
        return Response(picture, media_type="image/jpeg")

    async def model(self, _request: Request) -> Response:
        return _json(await asyncio.to_thread(card, self.bundle, self.config.threshold))

    async def healthz(self, _request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def readyz(self, _request: Request) -> Response:
        if self.stopping or self.pool.is_full:
            raise Refused(503, "stopping" if self.stopping else "the queue is full", wait=1)
        return Response("ready\n", media_type="text/plain")

    async def metrics(self, _request: Request) -> Response:
        return Response(self.meters.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, _request: Request) -> Response:
        return _json(schema.openapi(self.bundle.class_names, bool(self.config.token)))

    def _top(self, request: Request) -> int:
        text = request.query_params.get("top", "1")
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= 1):
            raise Refused(400, "top: give a whole number from 1 on")
        return min(int(text), len(self.bundle.class_names))

    def _answer(self, name: str, content: memoryview, top: int) -> Prediction:
        start = time.perf_counter()
        source = Source(name, *_checked(content))
        record = answer(self.bundle, source, top=top, threshold=self.config.threshold)
        self.meters.image(record.error is not None, time.perf_counter() - start)
        return record

    def _look(self, content: memoryview, label: str | None) -> bytes:
        picture = Source("body", *_checked(content)).pixels()
        shown = images.fit(picture, min(SHOWN, max(picture.shape[:2])))
        return images.encode(look(self.bundle, picture, shown, label), ".jpg")


def _checked(content: memoryview) -> tuple[bytes, str]:
    """A picture's bytes, and why they are not decoded, if so."""
    if len(content) > bodies.MAX_FILE:
        return b"", f"{len(content):,} bytes, more than the limit of {bodies.MAX_FILE:,}"
    data = bytes(content)
    try:
        head = images.header(data)
    except ImageError:
        return data, ""  # the decoder will say the same
    if head.width * head.height > MAX_PIXELS:
        return b"", f"{head.width} x {head.height} pixels, more than the limit of {MAX_PIXELS // 1_000_000} megapixels"
    return data, ""


def card(bundle: Bundle, threshold: float) -> dict[str, Any]:
    """What the page and a client may know of a run: names and figures, no path of this machine."""
    try:
        tested = evaluations.read(bundle.path / evaluations.TEST, ("accuracy", "interval", "baseline", "pictures"))
        accuracy = {
            "value": tested["accuracy"], "interval": tested["interval"], "baseline": tested["baseline"],
            "pictures": tested["pictures"], "on": "test",
        }  # fmt: skip
    except ImgclfError:
        known = bundle.info["metrics"]
        count = bundle.info.get("data", {}).get("pictures", {}).get("val")
        accuracy = {
            "value": known["val_accuracy"], "interval": known["val_interval"], "baseline": known["val_baseline"],
            "pictures": count, "on": "validation",
        }  # fmt: skip
    recipe = bundle.recipe
    return {
        "schema": "serve-model/1",
        "run": bundle.path.resolve().name,
        "model": bundle.info.get("model"),
        "classes": list(bundle.class_names),
        "accuracy": accuracy,
        "trained": bundle.info.get("finished"),
        "data": Path(str(bundle.info.get("data", {}).get("path", ""))).name or None,
        "pictures": bundle.info.get("data", {}).get("pictures"),
        "recipe": {"width": recipe.width, "height": recipe.height, "aspect": recipe.aspect},
        "parameters": bundle.info.get("parameters"),
        "calibrated": "calibration" in bundle.info,
        "threshold": threshold or None,
        "limits": {
            "file_bytes": bodies.MAX_FILE, "request_bytes": bodies.MAX_REQUEST, "files": bodies.MAX_FILES, "pixels": MAX_PIXELS,
        },
        "imgclf": imgclf.__version__,
    }  # fmt: skip


class Guard:
    """What holds for every request: who may ask, the headers of every answer, what is counted, and no traceback sent."""

    def __init__(self, app: App, config: ServeConfig, meters: Meters) -> None:
        self.app, self.meters = app, meters
        self.token = config.token.encode() if config.token else None
        self.local = is_loopback(config.host)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        ended, status = not has_body, 0

        async def receiving() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or not message.get("more_body")
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                if not ended and ("expect" in headers or not await bodies.drop(receive)):
                    more.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            refusal = self._refusal(scope["path"], headers)
            app: App = refusal if refusal else self.app
            await app(scope, receiving, sending)
        except Exception:
            _log.exception("a bug in imgclf, while answering %s %s", scope["method"], ascii(scope["path"]))
        finally:
            self.meters.request(scope["path"], status or 500, time.perf_counter() - start)

    def _refusal(self, path: str, headers: Mapping[str, str]) -> Response | None:
        host = headers.get("host", "")
        if self.local and not is_loopback(_name(host)):
            return _error(421, "this server answers to 127.0.0.1 and localhost only")  # another name: DNS rebinding
        origin = headers.get("origin")
        if origin and origin.partition("://")[2] != host:
            return _error(403, "requests from other web pages are not answered")
        if self.token and path not in _OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token):
                return _error(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        return None


def _name(host: str) -> str:
    """A Host header without its port and brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_text(value) + "\n", status, headers, "application/json")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": message}, status, headers)


def _file(name: str, media_type: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    content = (_PAGE / name).read_bytes()

    async def send(_request: Request) -> Response:
        return Response(content, headers={"Content-Type": media_type})

    return send


async def _refused(_request: Request, error: Exception) -> Response:
    refused = error if isinstance(error, Refused) else Refused(500, "")
    return _error(refused.status, str(refused), {"Retry-After": str(math.ceil(refused.wait))} if refused.wait else None)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "no such page", 405: f"{request.method} is not for this address"}
    return _error(status, words.get(status, "refused"), getattr(error, "headers", None))


async def _gone(_request: Request, _error_: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _failed(_request: Request, _error_: Exception) -> Response:
    return _error(500, "a bug in imgclf; what went wrong is on the server's standard error")
