"""`imgclf serve`: serve a run as a web page and an API, without TensorFlow."""

from imgclf.serve.server import serve, warning

__all__ = ["serve", "warning"]
