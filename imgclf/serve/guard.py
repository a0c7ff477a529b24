"""The middleware around all routes: access control, response headers, counters and the error log."""

import hmac
import math
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.responses import Response

from imgclf.core.config import ServeConfig
from imgclf.serve import bodies
from imgclf.serve import headers as security
from imgclf.serve.clients import Clients
from imgclf.serve.meters import Meters
from imgclf.serve.proxies import Hosts, Proxies
from imgclf.serve.responses import OPEN, SOON, App, Message, Receive, Send, error_response, log


class Guard:
    """ASGI middleware: checks access, adds headers, counts requests and responses, and never sends a traceback."""

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
        ambiguous = "content-length" in headers and "transfer-encoding" in headers  # a proxy may read this as two requests
        ended, status = not has_body, 0

        async def receive_and_track() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or not message.get("more_body")
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = list(security.ENCODED)
                if ambiguous or (not ended and ("expect" in headers or not await bodies.drop(receive))):
                    more.append(security.CLOSE)
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            with self.clients.request(client) as allowed:
                refusal = (
                    None
                    if allowed
                    else error_response(429, "too many unfinished requests from this client; try again in a second", SOON)
                )
                if ambiguous:
                    both = "the request has both Content-Length and Transfer-Encoding; send only one of them"
                    refusal = error_response(400, both)
                refusal = refusal or self._below_root(scope)
                refusal = refusal or self._refusal(scope["path"], headers, client, self.proxies.host(peer, headers))
                app: App = refusal if refusal else self.app
                await app(scope, receive_and_track, send_with_headers)
        except Exception:
            log.exception("a bug in imgclf, while responding to %s %s", scope["method"], ascii(scope["path"]))
        finally:
            self.meters.request(scope["path"], status or 500, time.perf_counter() - start)

    def _below_root(self, scope: MutableMapping[str, Any]) -> Response | None:
        """Strip the prefix that the proxy kept in the path. Redirect a request for the prefix alone to the page."""
        if self.root and scope["path"] == self.root:
            return Response(status_code=308, headers={"Location": f"{self.root.rpartition('/')[2]}/"})
        if self.root and scope["path"].startswith(f"{self.root}/"):
            scope["path"] = scope["path"].removeprefix(self.root)
        return None

    def _refusal(self, path: str, headers: Mapping[str, str], client: str, host: str) -> Response | None:
        if not self.hosts.allows(host):
            return error_response(
                421, "this host name is not allowed; to allow it, start the server with `imgclf serve --allowed-host NAME`"
            )
        if "origin" in headers and not self.hosts.is_own_origin(headers["origin"], host):
            return error_response(403, "requests from other web pages are refused")
        if self.token and path not in OPEN:
            return self._without_token(headers.get("authorization", ""), self.token, client)
        return None

    def _without_token(self, authorization: str, token: bytes, client: str) -> Response | None:
        wait = math.ceil(self.clients.locked_out(client))
        if wait:
            return error_response(429, f"too many wrong tokens; try again in {wait} s", {"Retry-After": str(wait)})
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token):
            return None
        if authorization:
            self.clients.wrong_token(client)
        return error_response(
            401, "this server requires a token; send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )
