"""The trace: while a function runs under one, its operations are written into a graph instead of being computed.

Parameters and buffers enter the graph by identity when they are first used; other concrete tensors become constants.
Assignments to them are kept until the end and become the graph's update pairs, so code after an assignment reads the
new value, as in ordinary Python.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dlcore import _core
from dlcore.errors import TraceError, user_frame

if TYPE_CHECKING:
    from dlcore.tensor import Tensor
    from dlcore.variable import Variable


class _Local(threading.local):
    def __init__(self) -> None:
        self.trace: Trace | None = None
        self.training = False
        self.layers: dict[int, str] | None = None  # id of each module of the running model → its path
        self.path: list[str] = []


_local = _Local()


class Trace:
    """A graph under construction. `with Trace(): f(Tensor.traced(...))`.

    `batch`: a prime that stands for any number of rows (the graph's `batch`); inputs made with that leading size give a
    graph that holds for every number of rows.
    """

    def __init__(self, training: bool = False, batch: int = 0) -> None:
        self.graph = _core.Graph()
        if batch:
            self.graph.batch = batch
        self.training = training
        self.states: dict[str, Variable] = {}  # params and states by leaf name, in order of first use
        self.sites = 0  # random operations so far
        self.rng: Variable | None = None
        self._leaves: dict[int, int] = {}  # id(tensor) → its leaf
        self._values: dict[int, int] = {}  # id(variable) → its value now
        self._assigned: dict[int, Variable] = {}
        self._names: dict[int, str] = {}  # id(variable) → the name its module gives it
        self._taken: set[str] = set()
        self._alive: list[Any] = []  # ids stay valid while their objects live
        self._outer: tuple[Trace | None, bool, dict[int, str] | None, list[str]] | None = None
        self.open = False

    def __enter__(self) -> Trace:
        self._outer = (_local.trace, _local.training, _local.layers, _local.path)
        _local.trace, _local.training, _local.layers, _local.path = self, self.training, None, []
        self.open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._outer is not None
        if kind is None:
            self._finish()
        self.open = False
        _local.trace, _local.training, _local.layers, _local.path = self._outer

    def name(self, tensors: Mapping[str, Variable]) -> None:
        """The names that the graph's leaves get when these tensors are first used."""
        for name, tensor in tensors.items():
            if id(tensor) not in self._names:
                self._names[id(tensor)] = name
                self._alive.append(tensor)

    def _fresh(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self._taken:
            n += 1
            candidate = f"{name}.{n}"
        self._taken.add(candidate)
        return candidate

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> int:
        return self.graph.input(self._fresh(name), dtype, shape)

    def leaf_of(self, variable: Variable) -> int:
        """The leaf of a parameter or buffer: its value at the beginning of the run."""
        key = id(variable)
        found = self._leaves.get(key)
        if found is None:
            name = self._fresh(self._names.get(key, variable.role + str(len(self.states))))
            add = self.graph.param if variable.role == "param" else self.graph.state
            found = add(name, variable.core.dtype, variable.core.shape)
            self._leaves[key] = found
            self.states[name] = variable
            self._alive.append(variable)
        return found

    def uses(self, variable: Variable) -> bool:
        return id(variable) in self._leaves

    def value_of(self, tensor: Tensor) -> int:
        """The graph's value for a traced, captured or constant tensor."""
        if tensor._trace is self:
            return tensor._id
        if tensor._trace is not None:
            raise TraceError(
                f"{user_frame()}: a tensor traced by another call is used here: it was kept (in a list, an attribute, "
                "a global) beyond the function that made it; return it from the traced function instead"
            )
        key = id(tensor)
        if tensor.role != "const":
            value = self._values.get(key)
            return self.leaf_of(tensor) if value is None else value  # type: ignore[arg-type]
        found = self._leaves.get(key)
        if found is None:
            found = self.graph.const(self._fresh(f"const{len(self._leaves)}"), tensor.core)
            self._leaves[key] = found
            self._alive.append(tensor)
        return found

    def emit(self, op: str, inputs: Sequence[int], attrs: Mapping[str, Any]) -> list[int]:
        return self.graph.emit(op, inputs, attrs, ".".join(_local.path[-1:]))

    def assign(self, variable: Variable, value: int) -> None:
        """The variable has this value from here on, and after the run."""
        self.leaf_of(variable)
        self._values[id(variable)] = value
        self._assigned[id(variable)] = variable

    @contextmanager
    def substitute(self, values: Sequence[tuple[Variable, int]]) -> Iterator[None]:
        """Within, the variables read as these values; assignments made inside stay."""
        before = [self._values.get(id(v)) for v, _ in values]
        for variable, value in values:
            self.leaf_of(variable)
            self._values[id(variable)] = value
        yield
        for (variable, value), old in zip(values, before, strict=True):
            if self._values.get(id(variable)) == value:
                if old is None:
                    del self._values[id(variable)]
                else:
                    self._values[id(variable)] = old

    def site(self) -> int:
        """A number for the next random operation."""
        self.sites += 1
        return self.sites - 1

    def _finish(self) -> None:
        if self.rng is not None:
            rng = self.leaf_of(self.rng)
            one = _core.Tensor.from_numpy(_step_increment(), copy=True)
            step = self.graph.const(self._fresh("rng.increment"), one)
            self.graph.update(rng, self.graph.emit("add", [rng, step], {})[0])
        for key, variable in self._assigned.items():
            if self._values[key] != self.leaf_of(variable):
                self.graph.update(self.leaf_of(variable), self._values[key])


def _step_increment() -> Any:
    import numpy as np

    return np.array([0, 1], dtype=np.int64)


def current() -> Trace | None:
    """The trace of this thread, if a function is being traced."""
    return _local.trace


def is_training() -> bool:
    """Whether layers behave as in training (dropout, batch statistics)."""
    return _local.training


@contextmanager
def training(mode: bool = True) -> Iterator[None]:
    """Within, layers behave as in training: dropout drops, batch norm uses and records the batch's statistics."""
    before, _local.training = _local.training, mode
    try:
        yield
    finally:
        _local.training = before


def layer_path() -> str:
    """The path of the layer now running ("encoder.2.fc1"), or ""."""
    return _local.path[-1] if _local.path else ""
