"""The ASGI application: its routes, and the handlers that compute the responses."""

import asyncio
import functools
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgclf.core.config import ServeConfig
from imgclf.core.errors import ImageError
from imgclf.core.names import nfc
from imgclf.images import preprocess
from imgclf.images.sources import Source
from imgclf.models.bundle import Bundle
from imgclf.models.prediction import Prediction, overlay, predict_image
from imgclf.serve import bodies, schema, uploads
from imgclf.serve.bodies import Disconnected, Refused, UploadMemory
from imgclf.serve.card import card
from imgclf.serve.clients import Clients
from imgclf.serve.guard import Guard
from imgclf.serve.meters import Meters
from imgclf.serve.pool import Job, Pool
from imgclf.serve.proxies import Proxies
from imgclf.serve.responses import FILES, App, disconnected, failed, file_response, json_response, no_route, refused

MAX_SIDE = 640  # pixels of the longer side of the image in the response of /explain
EXPLAIN_QUEUE = 8  # waiting requests to /explain; each takes sixty times as long as a prediction, on a separate thread

Result = TypeVar("Result")


class Service:
    """Serves one run: its threads, memory, clients and counters.

    Attributes:
        stopping: Whether the server no longer accepts requests.
    """

    def __init__(self, bundle: Bundle, config: ServeConfig, threads: int, meters: Meters | None = None) -> None:
        self.bundle, self.config = bundle, config
        self.meters = meters or Meters()
        self.pool = Pool(threads, config.queue, self.meters.queue)
        self.explain_pool = Pool(1, EXPLAIN_QUEUE)
        self.memory = UploadMemory()
        self.clients = Clients(Proxies(config.proxy).trusts)
        self.stopping = False

    def warm(self) -> None:
        """Load the network on every thread. Raises ImgclfError if it cannot be loaded."""
        preprocessing = self.bundle.preprocessing
        blank = np.zeros((preprocessing.height, preprocessing.width, 3), np.uint8)
        self.pool.warm(lambda: self.bundle.probability(blank))
        self.meters.set_ready(True)

    def close(self) -> None:
        """Cancel the waiting jobs."""
        self.pool.close()
        self.explain_pool.close()

    def app(self) -> App:
        """Return the ASGI application."""
        routes = [Route(path, file_response(*file)) for path, file in FILES.items()]
        routes += [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/explain", self.explain, methods=["POST"]),
            Route("/model", self.model),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]
        handlers: Any = {Refused: refused, HTTPException: no_route, Disconnected: disconnected, Exception: failed}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False  # `/model/` is not a route: respond with 404
        return Guard(app, self.config, self.meters, self.clients)

    async def predict(self, request: Request) -> Response:
        top = self._top(request)
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        client = request.scope["state"]["client"]
        if self.pool.is_full(client):
            raise Refused(503, "the queue is full; try again in a second", wait=1)
        async with self.memory.body(request.receive, request.headers, deadline, client) as body:
            images = bodies.images(body, request.headers.get("content-type", ""))
            jobs = [self._job(name, content, top) for name, content in images]
            records = await _unless_disconnected(request, self.pool.run(jobs, deadline, client))
        status = 200 if any(record.error is None for record in records) else 422
        return json_response([record.to_dict() for record in records], status)

    async def explain(self, request: Request) -> Response:
        label = request.query_params.get("label")
        label = None if label is None else nfc(label)
        if label is not None and label not in self.bundle.class_names:
            raise Refused(400, "label: no such class; /model lists them")
        client = request.scope["state"]["client"]
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        async with self.memory.body(request.receive, request.headers, deadline, client) as body:
            images = bodies.images(body, request.headers.get("content-type", ""))
            if len(images) != 1:
                raise Refused(400, "send exactly one image")
            try:
                job = Job(functools.partial(self._overlay, images[0][1], label))
                image = (await _unless_disconnected(request, self.explain_pool.run([job], deadline, client)))[0]
            except ImageError as error:
                raise Refused(422, str(error)) from None
        return Response(image, media_type="image/jpeg")

    async def model(self, _request: Request) -> Response:
        return json_response(await asyncio.to_thread(card, self.bundle, self.config.threshold))

    async def healthz(self, _request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def readyz(self, _request: Request) -> Response:
        if self.stopping or self.pool.is_full():
            raise Refused(503, "stopping" if self.stopping else "the queue is full", wait=1)
        ready, total = self.meters.processes
        fewer = "" if ready == total else f": {ready} of {total} processes"
        return Response(f"ready{fewer}\n", media_type="text/plain")

    async def metrics(self, _request: Request) -> Response:
        return Response(self.meters.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, _request: Request) -> Response:
        return json_response(schema.openapi(self.bundle.class_names, bool(self.config.token)))

    def _top(self, request: Request) -> int:
        text = request.query_params.get("top", "1")
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= 1):
            raise Refused(400, "top: give a whole number of at least 1")
        return min(int(text), len(self.bundle.class_names))

    def _job(self, name: str, content: memoryview, top: int) -> Job[Prediction]:
        data, problem, is_long = uploads.checked(content)
        return Job(functools.partial(self._predict_image, Source(name, data, problem), top), is_long)

    def _predict_image(self, source: Source, top: int) -> Prediction:
        start = time.perf_counter()
        record = predict_image(self.bundle, source, top=top, threshold=self.config.threshold)
        self.meters.image(record.error is not None, time.perf_counter() - start)
        return record

    def _overlay(self, content: memoryview, label: str | None) -> bytes:
        data, problem, _is_long = uploads.checked(content)
        image = Source("body", data, problem).pixels()
        shown = preprocess.fit(image, min(MAX_SIDE, max(image.shape[:2])))
        return preprocess.encode(overlay(self.bundle, image, shown, label), ".jpg")


async def _unless_disconnected(request: Request, coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of the coroutine. If the client disconnects, cancel it and raise Disconnected."""

    async def disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, disconnection = asyncio.ensure_future(coroutine), asyncio.ensure_future(disconnect())
    try:
        await asyncio.wait((task, disconnection), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        for pending in (task, disconnection):
            pending.cancel()
