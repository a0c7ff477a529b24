"""Responses, exception handlers, and the types of an ASGI application."""

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from imgclf.core.files.atomic import json_text
from imgclf.serve.bodies import Refused

PAGE = Path(__file__).parent.parent / "reports" / "page"
FILES = {
    "/": ("serve.html", "text/html; charset=utf-8"),
    "/serve.css": ("serve.css", "text/css; charset=utf-8"),
    "/serve.js": ("serve.js", "text/javascript; charset=utf-8"),
    "/serve.svg": ("serve.svg", "image/svg+xml"),
}
OPEN = {*FILES, "/healthz", "/readyz"}  # need no token: they contain nothing about the run
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
log = logging.getLogger("imgclf.serve")
SOON = {"Retry-After": "1"}


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_text(value) + "\n", status, headers, "application/json")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_response({"error": message}, status, headers)


def file_response(name: str, media_type: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return a handler that responds with a file of the page."""
    content = (PAGE / name).read_bytes()

    async def send(_request: Request) -> Response:
        return Response(content, headers={"Content-Type": media_type})

    return send


async def refused(_request: Request, error: Exception) -> Response:
    """Respond to a request that raised Refused."""
    refusal = error if isinstance(error, Refused) else Refused(500, "")
    headers = {"Retry-After": str(math.ceil(refusal.wait))} if refusal.wait else None
    return error_response(refusal.status, str(refusal), headers)


async def no_route(request: Request, error: Exception) -> Response:
    """Respond to a request for an unknown path, or with a method that the path does not accept."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "no such page", 405: f"this address does not accept {request.method}"}
    return error_response(status, words.get(status, "refused"), getattr(error, "headers", None))


async def disconnected(_request: Request, _error_: Exception) -> Response:
    return Response(status_code=400)  # the client does not read it


async def failed(_request: Request, _error_: Exception) -> Response:
    """Respond to a request that raised an unexpected exception."""
    return error_response(500, "a bug in imgclf; the details are on the server's standard error")
