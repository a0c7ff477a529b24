"""Counters of the server, in the text format of Prometheus."""

import bisect
import threading

import numpy as np
from numpy.typing import NDArray

ROUTES = ("/", "/predict", "/explain", "/model", "/healthz", "/readyz", "/metrics", "/openapi.json", "other")
STATUSES = (200, 400, 401, 403, 404, 405, 408, 413, 421, 422, 429, 500, 503)
RESULTS = ("predicted", "failed")
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds, bucket limits of both histograms
_HISTOGRAM = len(BOUNDS) + 2  # a count per bucket, the count beyond the last, the sum of seconds

_REQUESTS = 0
_IMAGES = _REQUESTS + len(ROUTES) * len(STATUSES)
_QUEUE = _IMAGES + len(RESULTS)
_REQUEST_SECONDS = _QUEUE + 1
_IMAGE_SECONDS = _REQUEST_SECONDS + len(ROUTES) * _HISTOGRAM
_READY = _IMAGE_SECONDS + _HISTOGRAM  # 1 while the process is ready, else 0
SIZE = _READY + 1


class Meters:
    """The counters of one process: a row of a table that all processes of the server share.

    A process writes only to its own row and reports the sum of all rows, so that every process reports the same numbers.

    Args:
        table: (processes, SIZE) float64; None for a single process.
        place: Row of this process.
    """

    def __init__(self, table: NDArray[np.float64] | None = None, place: int = 0) -> None:
        self._table = np.zeros((1, SIZE)) if table is None else table
        self._row = self._table[place]
        self._row[_QUEUE] = 0
        self._lock = threading.Lock()

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request and its response."""
        route = ROUTES.index(path) if path in ROUTES else len(ROUTES) - 1
        place = STATUSES.index(status) if status in STATUSES else STATUSES.index(500)
        with self._lock:
            self._row[_REQUESTS + route * len(STATUSES) + place] += 1
            self._observe(_REQUEST_SECONDS + route * _HISTOGRAM, seconds)

    def image(self, failed: bool, seconds: float) -> None:
        """Count an image, and the time to decode and predict it."""
        with self._lock:
            self._row[_IMAGES + failed] += 1
            self._observe(_IMAGE_SECONDS, seconds)

    def queue(self, length: int) -> None:
        """Store the number of images that wait for a thread."""
        self._row[_QUEUE] = length

    def set_ready(self, is_ready: bool) -> None:
        """Store whether the process of this row accepts requests."""
        self._row[_READY] = is_ready

    @property
    def processes(self) -> tuple[int, int]:
        """Number of processes that are ready, and number of all processes."""
        return int(self._table[:, _READY].sum()), len(self._table)

    def _observe(self, start: int, seconds: float) -> None:
        self._row[start + bisect.bisect_left(BOUNDS, seconds)] += 1
        self._row[start + _HISTOGRAM - 1] += seconds

    def text(self) -> str:
        """Return all counters in Prometheus' text format 0.0.4."""
        total = self._table.sum(axis=0)
        lines = _head("imgclf_requests_total", "counter", "Requests, by route and status of the response.")
        for number, route in enumerate(ROUTES):
            for place, status in enumerate(STATUSES):
                if count := total[_REQUESTS + number * len(STATUSES) + place]:
                    lines.append(f'imgclf_requests_total{{route="{route}",status="{status}"}} {count:.0f}')
        lines += _head("imgclf_images_total", "counter", "Images, by result.")
        for place, result in enumerate(RESULTS):
            lines.append(f'imgclf_images_total{{result="{result}"}} {total[_IMAGES + place]:.0f}')
        lines += _head("imgclf_queue_length", "gauge", "Images that wait for a thread.")
        lines.append(f"imgclf_queue_length {total[_QUEUE]:.0f}")
        lines += _head("imgclf_processes", "gauge", "Processes that accept requests.")
        lines.append(f"imgclf_processes {self.processes[0]}")
        lines += _head(
            "imgclf_request_seconds", "histogram", "Seconds from the headers of a request to the end of its response, by route."
        )
        for number, route in enumerate(ROUTES):
            start = _REQUEST_SECONDS + number * _HISTOGRAM
            if total[start : start + _HISTOGRAM].any():
                lines += _buckets("imgclf_request_seconds", f'route="{route}",', total[start : start + _HISTOGRAM])
        lines += _head(
            "imgclf_image_seconds", "histogram", "Seconds to decode and predict an image, without the time in the queue."
        )
        lines += _buckets("imgclf_image_seconds", "", total[_IMAGE_SECONDS : _IMAGE_SECONDS + _HISTOGRAM])
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def _buckets(name: str, labels: str, values: NDArray[np.float64]) -> list[str]:
    counts = values[:-1].cumsum()
    ends = [*map(str, BOUNDS), "+Inf"]
    lines = [f'{name}_bucket{{{labels}le="{end}"}} {count:.0f}' for end, count in zip(ends, counts, strict=True)]
    alone = f"{{{labels[:-1]}}}" if labels else ""
    return [*lines, f"{name}_sum{alone} {values[-1]:.6f}", f"{name}_count{alone} {counts[-1]:.0f}"]
