"""`imgclf serve`: a run as a web page and an API on this machine, without TensorFlow."""

from imgclf.serve.server import is_loopback, serve, warning

__all__ = ["is_loopback", "serve", "warning"]
