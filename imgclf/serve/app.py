"""What the server answers: routes, and the guard before them."""

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
from imgclf.serve.bodies import Gone, Refused, Room
from imgclf.serve.card import card
from imgclf.serve.clients import Clients
from imgclf.serve.guard import Guard
from imgclf.serve.meters import Meters
from imgclf.serve.pool import Job, Pool
from imgclf.serve.proxies import Proxies
from imgclf.serve.responses import FILES, App, failed, file_response, gone, json_response, no_route, refused

SHOWN = 640  # pixels of the longer side of the image that /explain sends back
LOOKS = 8  # requests to /explain that may wait; they take sixty times as long as a prediction, on a thread of their own

Result = TypeVar("Result")


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
        preprocessing = self.bundle.preprocessing
        blank = np.zeros((preprocessing.height, preprocessing.width, 3), np.uint8)
        self.pool.warm(lambda: self.bundle.probability(blank))
        self.meters.answers(True)

    def close(self) -> None:
        self.pool.close()
        self.lookers.close()

    def app(self) -> App:
        """The ASGI application."""
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
        handlers: Any = {Refused: refused, HTTPException: no_route, Gone: gone, Exception: failed}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False  # `/model/` is no address of ours: 404, as any other
        return Guard(app, self.config, self.meters, self.clients)

    async def predict(self, request: Request) -> Response:
        top = self._top(request)
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        client = request.scope["state"]["client"]
        if self.pool.is_full(client):
            raise Refused(503, "the queue is full; try again in a second", wait=1)
        async with self.room.body(request.receive, request.headers, deadline, client) as body:
            found = bodies.images(body, request.headers.get("content-type", ""))
            jobs = [self._job(name, content, top) for name, content in found]
            records = await _unless_gone(request, self.pool.run(jobs, deadline, client))
        status = 200 if any(record.error is None for record in records) else 422
        return json_response([record.to_dict() for record in records], status)

    async def explain(self, request: Request) -> Response:
        label = request.query_params.get("label")
        label = None if label is None else nfc(label)
        if label is not None and label not in self.bundle.class_names:
            raise Refused(400, "label: no such class; /model lists them")
        client = request.scope["state"]["client"]
        deadline = asyncio.get_running_loop().time() + self.config.timeout
        async with self.room.body(request.receive, request.headers, deadline, client) as body:
            found = bodies.images(body, request.headers.get("content-type", ""))
            if len(found) != 1:
                raise Refused(400, "give one image")
            try:
                looking = Job(functools.partial(self._overlay, found[0][1], label))
                image = (await _unless_gone(request, self.lookers.run([looking], deadline, client)))[0]
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
        answering, all_ = self.meters.processes
        fewer = "" if answering == all_ else f": {answering} of {all_} processes"
        return Response(f"ready{fewer}\n", media_type="text/plain")

    async def metrics(self, _request: Request) -> Response:
        return Response(self.meters.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, _request: Request) -> Response:
        return json_response(schema.openapi(self.bundle.class_names, bool(self.config.token)))

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
        record = predict_image(self.bundle, source, top=top, threshold=self.config.threshold)
        self.meters.image(record.error is not None, time.perf_counter() - start)
        return record

    def _overlay(self, content: memoryview, label: str | None) -> bytes:
        data, problem, _is_long = uploads.checked(content)
        image = Source("body", data, problem).pixels()
        shown = preprocess.fit(image, min(SHOWN, max(image.shape[:2])))
        return preprocess.encode(overlay(self.bundle, image, shown, label), ".jpg")


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
