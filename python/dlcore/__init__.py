"""dlcore: from labelled data to a program. `import dlcore as dl; from dlcore import nn, optim, data`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dlcore.tensor import Tensor  # first: the functions are written in terms of it

# isort: split
from dlcore import functions, nn, optim, random, schedule
from dlcore._core import __version__
from dlcore.compile import Compiled, compile
from dlcore.dtype import (
    DType,
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
)
from dlcore.dtype import bool_ as bool
from dlcore.errors import FileError, TraceError, TrainingError
from dlcore.functions import *  # noqa: F403
from dlcore.grad import grad, value_and_grad
from dlcore.info import info, num_threads, precision, set_num_threads, set_precision
from dlcore.random import seed
from dlcore.trace import is_training, training
from dlcore.train_step import TrainStep, train_step

if TYPE_CHECKING:
    from dlcore import callbacks, data, metrics, plots
    from dlcore.freezing import freeze
    from dlcore.history import History
    from dlcore.program import Program, load
    from dlcore.trainer import Trainer

# Loaded on first use, so that importing dlcore stays quick.
_LAZY = {
    "Trainer": "trainer", "History": "history", "freeze": "freezing", "Program": "program", "load": "program",
    "callbacks": "", "data": "", "metrics": "", "plots": "",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'dlcore' has no attribute '{name}'")
    module = importlib.import_module(f"dlcore.{_LAZY[name] or name}")
    found = getattr(module, name) if _LAZY[name] else module
    globals()[name] = found
    return found


__all__ = [
    "Compiled", "DType", "FileError", "History", "Program", "Tensor", "TraceError", "TrainStep", "Trainer",
    "TrainingError", "__version__", "bfloat16", "bool", "callbacks", "compile", "data", "float16", "float32", "float64",
    "freeze", "grad", "info", "int8", "int32", "int64", "is_training", "load", "metrics", "nn", "num_threads", "optim",
    "plots", "precision", "random", "schedule", "seed", "set_num_threads", "set_precision", "train_step", "training",
    "uint8", "value_and_grad",
    *functions.__all__,
]  # fmt: skip
