"""What the server answers: routes, and the guard before them."""

import asyncio
import functools
import hmac
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import imgclf
from imgclf.core.config import ServeConfig
from imgclf.core.errors import ImageError, ImgclfError
from imgclf.core.files.atomic import json_text
from imgclf.core.names import nfc
from imgclf.images import preprocess
from imgclf.images.sources import Source
from imgclf.models import evaluations
from imgclf.models.bundle import Bundle
from imgclf.models.prediction import Prediction, answer, look
from imgclf.serve import bodies, schema, uploads
from imgclf.serve import headers as security
from imgclf.serve.bodies import Gone, Refused, Room
from imgclf.serve.clients import Clients
from imgclf.serve.meters import Meters
from imgclf.serve.pool import Job, Pool
from imgclf.serve.proxies import Hosts, Proxies

SHOWN = 640  # pixels of the longer side of the picture that /explain sends back
LOOKS = 8  # requests to /explain that may wait; they take sixty times as long as a prediction, on a thread of their own

_PAGE = Path(__file__).parent.parent / "reports" / "page"
_FILES = {
    "/": ("serve.html", "text/html; charset=utf-8"),
    "/serve.css": ("serve.css", "text/css; charset=utf-8"),
    "/serve.js": ("serve.js", "text/javascript; charset=utf-8"),
    "/serve.svg": ("serve.svg", "image/svg+xml"),
}
_OPEN = {*_FILES, "/healthz", "/readyz"}  # without the token: nothing about the run is in them
Result = TypeVar("Result")
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
        self.clients = Clients(Proxies(config.proxy).trusts)
        self.stopping = False

    def warm(self) -> None:
        """Load the network on every thread; raises ImgclfError for one that does not load."""
        recipe = self.bundle.recipe
        blank = np.zeros((recipe.height, recipe.width, 3), np.uint8)
        self.pool.warm(lambda: self.bundle.probability(blank))
        self.meters.answers(True)

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
        return Guard(app, self.config, self.meters, self.clients)

    async def predict(self, request: Request) -> Response:
        top = self._top(request)
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        client = request.scope["state"]["client"]
        if self.pool.is_full(client):
            raise Refused(503, "the queue is full; try again in a second", wait=1)
        body = await self.room.read(request.receive, request.headers, deadline, client)
        try:
            found = bodies.pictures(body, request.headers.get("content-type", ""))
            jobs = [self._job(name, content, top) for name, content in found]
            records = await _unless_gone(request, self.pool.run(jobs, deadline, client))
        finally:
            self.room.free(body, client)
        status = 200 if any(record.error is None for record in records) else 422
        return _json([record.to_dict() for record in records], status)

    async def explain(self, request: Request) -> Response:
        label = request.query_params.get("label")
        label = None if label is None else nfc(label)
        if label is not None and label not in self.bundle.class_names:
            raise Refused(400, "label: no such class; /model lists them")
        client = request.scope["state"]["client"]
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        body = await self.room.read(request.receive, request.headers, deadline, client)
        try:
            found = bodies.pictures(body, request.headers.get("content-type", ""))
            if len(found) != 1:
                raise Refused(400, "give one picture")
            try:
                looking = Job(functools.partial(self._look, found[0][1], label))
                picture = (await _unless_gone(request, self.lookers.run([looking], deadline, client)))[0]
            except ImageError as error:
                raise Refused(422, str(error)) from None
        finally:
            self.room.free(body, client)
        return Response(picture, media_type="image/jpeg")

    async def model(self, _request: Request) -> Response:
        return _json(await asyncio.to_thread(card, self.bundle, self.config.threshold))

    async def healthz(self, _request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def readyz(self, _request: Request) -> Response:
        if self.stopping or self.pool.is_full():
            raise Refused(503, "stopping" if self.stopping else "the queue is full", wait=1)
        answering, all_ = self.meters.processes
        fewer = "" if answering == all_ else f": {answering} of {all_} processes"
        return Response(f"ready{fewer}\n", media_type="text/plain")

    async def metrics(self, _request: Request) -> Response:
        return Response(self.meters.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, _request: Request) -> Response:
        return _json(schema.openapi(self.bundle.class_names, bool(self.config.token)))

    def _top(self, request: Request) -> int:
        text = request.query_params.get("top", "1")
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= 1):
            raise Refused(400, "top: give a whole number from 1 on")
        return min(int(text), len(self.bundle.class_names))

    def _job(self, name: str, content: memoryview, top: int) -> Job[Prediction]:
        data, problem, is_long = uploads.checked(content)
        return Job(functools.partial(self._answer, Source(name, data, problem), top), is_long)

    def _answer(self, source: Source, top: int) -> Prediction:
        start = time.perf_counter()
        record = answer(self.bundle, source, top=top, threshold=self.config.threshold)
        self.meters.image(record.error is not None, time.perf_counter() - start)
        return record

    def _look(self, content: memoryview, label: str | None) -> bytes:
        data, problem, _is_long = uploads.checked(content)
        picture = Source("body", data, problem).pixels()
        shown = preprocess.fit(picture, min(SHOWN, max(picture.shape[:2])))
        return preprocess.encode(look(self.bundle, picture, shown, label), ".jpg")


async def _unless_gone(request: Request, answering: Coroutine[Any, Any, Result]) -> Result:
    """The result, or Gone as soon as the client hangs up: nothing is computed that nobody waits for."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(answering), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()


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
            "file_bytes": bodies.MAX_FILE, "request_bytes": bodies.MAX_REQUEST, "files": bodies.MAX_FILES,
            "pixels": uploads.MAX_PIXELS,
        },
        "imgclf": imgclf.__version__,
    }  # fmt: skip


class Guard:
    """What holds for every request: who may ask, the headers of every answer, what is counted, and no traceback sent."""

    def __init__(self, app: App, config: ServeConfig, meters: Meters, clients: Clients) -> None:
        self.app, self.meters, self.clients = app, meters, clients
        self.token = config.token.encode() if config.token else None
        self.proxies, self.hosts = Proxies(config.proxy), Hosts(config.host, config.allowed_host)
        self.root = config.root_path

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        peer = (scope.get("client") or ("",))[0]
        client = scope["state"]["client"] = self.proxies.client(peer, headers)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        ambiguous = "content-length" in headers and "transfer-encoding" in headers  # where one proxy sees two requests
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
                more = list(security.ENCODED)
                if ambiguous or (not ended and ("expect" in headers or not await bodies.drop(receive))):
                    more.append(security.CLOSE)
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            with self.clients.request(client) as may_have_one_more:
                refusal = (
                    None
                    if may_have_one_more
                    else _error(429, "too many unfinished requests from this client; try again in a second", _SOON)
                )
                if ambiguous:
                    refusal = _error(400, "the request has both Content-Length and Transfer-Encoding; send only one of them")
                refusal = refusal or self._below_root(scope)
                refusal = refusal or self._refusal(scope["path"], headers, client, self.proxies.host(peer, headers))
                app: App = refusal if refusal else self.app
                await app(scope, receiving, sending)
        except Exception:
            _log.exception("a bug in imgclf, while answering %s %s", scope["method"], ascii(scope["path"]))
        finally:
            self.meters.request(scope["path"], status or 500, time.perf_counter() - start)

    def _below_root(self, scope: MutableMapping[str, Any]) -> Response | None:
        """Take off the prefix that a proxy left on the path; send who asks for the prefix alone to the page."""
        if self.root and scope["path"] == self.root:
            return Response(status_code=308, headers={"Location": f"{self.root.rpartition('/')[2]}/"})
        if self.root and scope["path"].startswith(f"{self.root}/"):
            scope["path"] = scope["path"].removeprefix(self.root)
        return None

    def _refusal(self, path: str, headers: Mapping[str, str], client: str, host: str) -> Response | None:
        if not self.hosts.allows(host):
            return _error(
                421, "this host name is not allowed; to allow it, start the server with `imgclf serve --allowed-host NAME`"
            )
        if "origin" in headers and not self.hosts.is_own_origin(headers["origin"], host):
            return _error(403, "requests from other web pages are not answered")
        if self.token and path not in _OPEN:
            return self._without_token(headers.get("authorization", ""), self.token, client)
        return None

    def _without_token(self, authorization: str, token: bytes, client: str) -> Response | None:
        wait = math.ceil(self.clients.locked_out(client))
        if wait:
            return _error(429, f"too many wrong tokens; try again in {wait} s", {"Retry-After": str(wait)})
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token):
            return None
        if authorization:
            self.clients.wrong_token(client)
        return _error(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


_SOON = {"Retry-After": "1"}


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
