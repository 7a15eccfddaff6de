"""Errors that Python raises by itself, and where in the user's code they arose."""

from __future__ import annotations

import os
import sys

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class TraceError(TypeError):
    """A traced tensor was asked for its numbers: while a function is traced only shapes and dtypes are known."""


def user_frame() -> str:
    """`file:line` of the innermost frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def trace_error(what: str, remedy: str) -> TraceError:
    return TraceError(f"{user_frame()}: {what} on a traced tensor: its values are not known while tracing; {remedy}")


class FileError(OSError, ValueError):
    """A file that is damaged, or not what it should be; the message names the file and what is wrong with it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a number."""
