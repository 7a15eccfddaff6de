"""Program: a frozen model. Architecture and parameters behave like a classic program: arrays in, arrays or labels out.

The file is a safetensors file: its tensors are the graph's constants, its metadata holds the graph's text form, the
names of the classes and the tokenizer. It holds no code, and everything in it is checked when it is read.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlcore import _core
from dlcore.data.dataset import as_array
from dlcore.data.transforms import CharTokenizer
from dlcore.dtype import as_dtype
from dlcore.errors import FileError
from dlcore.profile import table

Array = npt.NDArray[Any]

# Stands for the number of rows while tracing: sizes divisible by it are multiples of N
# (docs/decisions/0002-symbolic-batch.md).
ROWS = 1_000_003
BLOCK = 64  # rows that run together
_PLANS = 8  # sizes kept planned
_KINDS = ("values", "classes", "binary")
_OPTIMIZE = ("latency", "throughput")


class Program:
    """Runs a frozen graph on any number of rows.

    kind: "classes" (outputs are logits of classes), "binary" (one logit), or "values".
    """

    def __init__(
        self,
        graph: _core.Graph,
        kind: str = "values",
        classes: Sequence[str] | None = None,
        tokenizer: CharTokenizer | None = None,
        optimize: str = "throughput",
    ) -> None:
        if kind not in _KINDS:
            raise ValueError(f"kind should be one of {', '.join(_KINDS)}, got '{kind}'")
        if optimize not in _OPTIMIZE:
            raise ValueError(f"optimize should be one of {', '.join(_OPTIMIZE)}, got '{optimize}'")
        self.graph = graph
        self.kind = kind
        self.classes = None if classes is None else list(classes)
        self.tokenizer = tokenizer
        self.optimize = optimize
        self._inputs = [(n, graph.dtype(v), graph.shape(v)) for role, n, v in graph.leaves() if role == "input"]
        self._outputs = [(n, graph.dtype(v), graph.shape(v)) for n, v in graph.outputs()]
        self._check()
        self._dtype = _core.Tensor(self._inputs[0][1], (0,)).numpy().dtype
        self._plans: OrderedDict[int, _core.Program] = OrderedDict()
        self._lock = threading.Lock()

    def _check(self) -> None:
        roles = {role for role, _, _ in self.graph.leaves()}
        if roles & {"param", "state"} or self.graph.updates():
            raise ValueError("a program's graph has inputs and constants only: parameters or states are left in it")
        if self.graph.batch != ROWS or not self._inputs or not self._outputs:
            raise ValueError("a program's graph has inputs and outputs with an open number of rows")
        for what, values in (("input", self._inputs), ("output", self._outputs)):
            for name, _, shape in values:
                if not shape or shape[0] != ROWS or any(d % ROWS == 0 and d for d in shape[1:]):
                    raise ValueError(
                        f"{what} '{name}' should have one row for each row given, and only there: got shape "
                        f"{_shown(shape)}; a prediction must not depend on the rows beside it"
                    )
        if self.kind != "values" and (len(self._outputs) != 1 or self._outputs[0][1] not in ("f32", "f64")):
            raise ValueError("a classifier has one output of logits")
        if self.classes is not None and self.kind == "classes" and self._outputs[0][2][-1] != len(self.classes):
            raise ValueError(f"{len(self.classes)} class names for an output of shape {_shown(self._outputs[0][2])}")

    @property
    def inputs(self) -> list[tuple[str, str, tuple[int | None, ...]]]:
        """(name, dtype, shape) of each input; None stands for the number of rows."""
        return [(n, as_dtype(d).name, (None, *s[1:])) for n, d, s in self._inputs]

    @property
    def outputs(self) -> list[tuple[str, str, tuple[int | None, ...]]]:
        """(name, dtype, shape) of each output; None stands for the number of rows."""
        return [(n, as_dtype(d).name, (None, *s[1:])) for n, d, s in self._outputs]

    def run(self, *arrays: Any) -> Any:
        """The outputs for any number of rows: one array, or a tuple of several.

        Arrays are converted to the inputs' dtypes where that loses nothing but float64's digits. A row's result is the
        same to the bit whatever other rows are given with it.
        """
        if len(arrays) == 1 and self._fits(arrays[0]) and (plan := self._plans.get(len(arrays[0]))) is not None:
            outputs = plan.run([_core.Tensor.from_numpy(arrays[0])])  # the short way, which a single row notices
            return outputs[0].numpy() if len(outputs) == 1 else tuple(t.numpy() for t in outputs)
        made = self._prepare(arrays)
        rows = len(made[0])
        parts: list[list[Array]] = []
        begin = 0
        for size in self._blocks(rows):
            block = [_core.Tensor.from_numpy(a[begin : begin + size]) for a in made]
            parts.append([t.numpy() for t in self._plan(size).run(block)])
            begin += size
        if not parts:
            found = [np.zeros((0, *s[1:]), _core.Tensor(d, (0,)).numpy().dtype) for _, d, s in self._outputs]
        elif len(parts) == 1:
            found = parts[0]
        else:
            found = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return found[0] if len(found) == 1 else tuple(found)

    def _fits(self, value: Any) -> bool:
        """Whether the value needs no conversion and the program has one input."""
        return (
            type(value) is np.ndarray
            and len(self._inputs) == 1
            and value.dtype == self._dtype
            and value.shape[1:] == self._inputs[0][2][1:]
            and value.flags.c_contiguous
        )

    def _prepare(self, arrays: Sequence[Any]) -> list[Array]:
        if len(arrays) != len(self._inputs):
            raise ValueError(f"the program takes {len(self._inputs)} arrays, got {len(arrays)}")
        made = []
        for value, (name, dtype, shape) in zip(arrays, self._inputs, strict=True):
            if isinstance(value, str) or (isinstance(value, (list, tuple)) and value and isinstance(value[0], str)):
                value = self._tokens([value] if isinstance(value, str) else value)
            a = as_array(value)
            if a.shape[1:] != shape[1:]:
                raise ValueError(f"input '{name}' should have shape {_shown(shape)}, got {_shown(a.shape)}")
            to = _core.Tensor(dtype, (0,)).numpy().dtype
            if a.dtype != to:
                if not (np.can_cast(a.dtype, to, "same_kind") or (a.dtype.kind in "iub" and to.kind in "iuf")):
                    raise TypeError(f"input '{name}' should be {to}, got {a.dtype}, which does not convert to it")
                converted = a.astype(to)
                if to.kind in "iu" and not np.array_equal(converted, a):
                    raise ValueError(f"input '{name}' should be {to}, got {a.dtype} values that do not fit")
                a = converted
            made.append(np.ascontiguousarray(a))
        if len({len(a) for a in made}) > 1:
            raise ValueError(f"the inputs should have equally many rows, got {', '.join(str(len(a)) for a in made)}")
        return made

    def _tokens(self, texts: Sequence[str]) -> Array:
        if self.tokenizer is None:
            raise TypeError("this program takes numbers: it was frozen without a tokenizer")
        return np.stack([self.tokenizer.encode(t) for t in texts])

    def _blocks(self, rows: int) -> list[int]:
        """Sizes to run in: whole blocks, then powers of two, so that few sizes are ever planned; alone for latency."""
        sizes = [BLOCK] * (rows // BLOCK)
        rest = rows % BLOCK
        if rest and self.optimize == "latency" and (rest in self._plans or len(self._plans) < _PLANS // 2):
            return [*sizes, rest]
        return sizes + [1 << bit for bit in range(BLOCK.bit_length() - 1, -1, -1) if rest >> bit & 1]

    def _plan(self, rows: int) -> _core.Program:
        with self._lock:
            plan = self._plans.get(rows)
            if plan is None:
                plan = self._plans[rows] = _core.Program(self.graph.with_batch(rows))
                while len(self._plans) > _PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(rows)
            return plan

    def predict_proba(self, *arrays: Any) -> Array:
        """Probabilities of the classes, (rows, classes), or of the positive class for a binary classifier."""
        if self.kind == "values":
            raise TypeError("predict_proba is for classifiers; this program gives values: use predict or run")
        logits = np.asarray(self.run(*arrays), np.float64)
        if self.kind == "binary":
            return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        e = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True), np.float32)

    def predict(self, *arrays: Any, batch_size: int | None = None, progress: bool = False) -> Any:
        """For a classifier the classes (by name where they are known), else what `run` gives.

        batch_size: rows taken from the arrays at a time (for arrays larger than memory); results do not depend on it.
        """
        rows = len(arrays[0]) if arrays and not isinstance(arrays[0], str) else 1
        size = rows if batch_size is None else batch_size
        if size < 1 and rows:
            raise ValueError(f"batch_size should be at least 1, got {batch_size}")
        if size >= rows and not progress:
            return self._named(self.run(*arrays))
        from dlcore.progress import Progress

        size = min(size, 16 * BLOCK)
        parts = []
        with Progress(1, rows, progress) as bar:
            bar.epoch(1)
            for begin in range(0, rows, size):
                parts.append(self.run(*(a[begin : begin + size] for a in arrays)))
                if bar.due():
                    bar.step(min(begin + size, rows), {})
        if isinstance(parts[0], tuple):
            return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        return self._named(np.concatenate(parts))

    def _named(self, outputs: Any) -> Any:
        if self.kind == "values":
            return outputs
        if self.kind == "classes":
            found = outputs.argmax(-1)
        else:
            found = (outputs > 0).astype(np.int64)
            found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
        return found if self.classes is None else np.asarray(self.classes)[found]

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file that `dl.load` reads anywhere. Written beside the target, then moved: none is left half written."""
        from safetensors.numpy import save_file

        names = [n for role, n, _ in self.graph.leaves() if role == "const"]
        metadata = {
            "format": "dlcore-program",
            "version": "1",
            "graph": self.graph.text(),
            "kind": self.kind,
            "optimize": self.optimize,
        }
        metadata["classes"] = json.dumps(self.classes)
        metadata["tokenizer"] = "" if self.tokenizer is None else self.tokenizer.to_json()
        target = os.fspath(path)
        save_file({n: np.array(self.graph.const_data(n).numpy()) for n in names}, target + ".part", metadata)
        os.replace(target + ".part", target)

    def __str__(self) -> str:
        return self.graph.text()

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(f"{n}: {d}{_shown(s)}" for n, d, s in v) for v in (self._inputs, self._outputs))
        return f"Program({inputs} → {outputs})"

    def profile(self, *arrays: Any, repeat: int = 10) -> str:
        """Time, GFLOP/s or GB/s, and bytes of each kernel on these rows (run as one block), the slowest first."""
        made = self._prepare(arrays)
        return table(self._plan(len(made[0])).profile([_core.Tensor.from_numpy(a) for a in made], repeat))

    def memory(self, rows: int) -> list[tuple[str, str, int]]:
        """(op, layer, bytes in use) while each node runs on so many rows: `plots.memory` draws it."""
        if rows < 1:
            raise ValueError(f"memory is for at least 1 row, got {rows}")
        return self._plan(rows).memory()


def _shown(shape: Sequence[int]) -> str:
    return (
        "("
        + ", ".join("N" if d == ROWS else f"{d // ROWS}*N" if d and d % ROWS == 0 else str(d) for d in shape)
        + ",)"[len(shape) > 1 :]
    )


def load(path: str | os.PathLike[str]) -> Program:
    """Reads a program file, without the model's class or pickle. Raises FileError naming what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"no such file: {name}")
    try:
        with safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != "dlcore-program":
                raise FileError(
                    name, "a safetensors file, but no dlcore program (its metadata lacks format: dlcore-program)"
                )
            if metadata.get("version") != "1":
                raise FileError(name, f"program version {metadata.get('version')!r}; this dlcore reads version 1")
            constants = {k: _core.Tensor.from_numpy(file.get_tensor(k)) for k in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FileError(name, f"damaged, or no safetensors file: {error}") from None
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(name, f"cannot be read: {error}") from None
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise FileError(name, f"its tensors cannot be read: {error}") from None
    try:
        graph = _core.Graph.parse(metadata.get("graph", ""), constants)
        used = {n for role, n, _ in graph.leaves() if role == "const"}
        if extra := sorted(set(constants) - used):
            raise ValueError(f"tensors that the graph does not use: {', '.join(extra[:5])}")
        classes = json.loads(metadata.get("classes", "null"))
        if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
            raise ValueError("the class names should be a list of texts")
        tokenizer = CharTokenizer.from_json(metadata["tokenizer"]) if metadata.get("tokenizer") else None
        program = Program(graph, metadata.get("kind", ""), classes, tokenizer, metadata.get("optimize", ""))
        graph.with_batch(1).verify()
        return program
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, RecursionError) as error:
        text = error.args[0] if error.args else error
        raise FileError(name, f"its contents do not hold together: {text}") from None
