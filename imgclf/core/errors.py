"""Errors that a user can cause or meet, each with its exit code.

A message names the problem, the file or value, the allowed values, and the next step.
"""


class ImgclfError(Exception):
    """An expected failure, such as bad input or a metric below its minimum."""

    exit_code = 1


class UsageError(ImgclfError):
    """The options of a command are invalid or contradict each other."""

    exit_code = 2


class ImageError(ImgclfError):
    """One image cannot be used. `reason` is a short fixed code, such as `damaged`; the message explains it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
