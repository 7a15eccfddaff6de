"""Checkpoints: what training needs to go on with the same bits, as one safetensors file.

Random numbers and orders of rows are counted, not stored: besides parameters and moments there are only integers and
the history.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore import random
from dlcore.errors import FileError
from dlcore.metrics import Accumulator

if TYPE_CHECKING:
    from dlcore.trainer import Trainer


@dataclass(frozen=True)
class Position:
    """Where training stands: epochs done, batches of the next one done, and what those batches summed up to."""

    epoch: int = 0
    batch: int = 0
    sums: dict[str, Any] | None = None


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    from safetensors.numpy import save_file

    at = trainer.position
    state = {
        "epoch": at.epoch, "batch": at.batch, "sums": at.sums, "random": random.get_state(),
        "history": trainer.history.epochs,
    }  # fmt: skip
    tensors = {f"model.{k}": np.array(v.numpy()) for k, v in trainer.model.state_dict().items()}
    tensors |= {f"optimizer.{k}": np.array(v.numpy()) for k, v in trainer.optimizer.state_dict().items()}
    target = os.fspath(path)
    save_file(tensors, target + ".part", {"format": "dlcore-checkpoint", "version": "1", "state": json.dumps(state)})
    os.replace(target + ".part", target)


def load(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Raises FileError naming what is wrong with the file; the model is then as it was."""
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"no such file: {name}")
    try:
        with safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise FileError(name, f"damaged, or no safetensors file: {error}") from None
    if metadata.get("format") != "dlcore-checkpoint" or metadata.get("version") != "1":
        raise FileError(name, "no checkpoint of dlcore (format dlcore-checkpoint, version 1)")
    try:
        state = json.loads(metadata["state"])
        position = Position(int(state["epoch"]), int(state["batch"]), state["sums"])
        numbers = {k: int(state["random"][k]) for k in ("seed", "step", "draws")}
        epochs = [{str(k): float(v) for k, v in e.items()} for e in state["history"]]
        _check(trainer, position, numbers)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise FileError(name, f"its state does not hold together: {error!r}") from None
    _check_moments(trainer, name, tensors)
    before = {k: np.array(v.numpy()) for k, v in trainer.model.state_dict().items()}
    try:
        trainer.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        trainer.optimizer.load_state_dict({k[10:]: v for k, v in tensors.items() if k.startswith("optimizer.")})
    except (ValueError, TypeError, KeyError) as error:
        trainer.model.load_state_dict(before)
        text = error.args[0] if error.args else error
        raise FileError(name, f"it does not fit this model and optimizer: {text}") from None
    random.set_state(numbers)
    trainer.history.epochs = epochs
    trainer.position = position


def _check_moments(trainer: Trainer, file: str, tensors: dict[str, Any]) -> None:
    """The optimizer keeps values for parameters that it has not seen yet: that they fit is to be known now."""
    for name, parameter in trainer.model.named_parameters():
        for key, value in tensors.items():
            held_for = key.partition(".")[2].partition(".")[2]  # optimizer.KIND.NAME
            if key.startswith("optimizer.") and held_for == name and value.shape != parameter.shape:
                raise FileError(file, f"'{key}' has shape {value.shape}, the parameter '{name}' {parameter.shape}")


def _check(trainer: Trainer, position: Position, numbers: dict[str, int]) -> None:
    """Before anything of the trainer is changed: counters that can be counted on, sums of the same metrics."""
    if position.epoch < 0 or position.batch < 0:
        raise ValueError(f"epoch {position.epoch} and batch {position.batch} should not be negative")
    if any(not -(2**63) <= v < 2**63 for v in numbers.values()):
        raise ValueError("the random numbers' counters should fit 64 bits")
    if position.sums is not None:
        sums = Accumulator(trainer.metrics)
        sums.restore(position.sums)
        if len(sums.sums) != len(sums.metrics):
            raise ValueError(f"it was saved with {len(sums.sums)} metrics, the trainer has {len(sums.metrics)}")
