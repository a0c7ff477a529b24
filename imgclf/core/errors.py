"""The errors a user can cause or meet, each with its exit code.

A message says what is wrong, which file or value, what is allowed and what to do next.
"""


class ImgclfError(Exception):
    """An expected failure: bad input, a gate not met."""

    exit_code = 1


class UsageError(ImgclfError):
    """The command line itself asks for something impossible."""

    exit_code = 2


class ImageError(ImgclfError):
    """One image that cannot be used; `reason` is a short fixed code, the message explains."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
