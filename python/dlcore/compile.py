"""dl.compile: a function of tensors becomes one Program for each signature of its inputs."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dlcore import _core, pytree, trace
from dlcore.tensor import Tensor, to_core
from dlcore.variable import Variable, structure

WARN_AFTER = 8  # programs of one function


def describe(value: Any, inputs: list[_core.Tensor], scalars: bool) -> Any:
    """A hashable signature of an argument; its arrays (and with `scalars` its floats) are appended to `inputs`."""
    if isinstance(value, Tensor):
        core = value.core
        inputs.append(core)
        return core.dtype, core.shape
    if value is None or isinstance(value, (bool, int, str)):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return type(value), tuple([describe(v, inputs, scalars) for v in value])
    if isinstance(value, dict):
        return dict, tuple([(k, describe(v, inputs, scalars)) for k, v in value.items()])
    if isinstance(value, float) and not isinstance(value, np.generic):
        if not scalars:
            return float, value
        inputs.append(_core.Tensor.from_numpy(np.asarray(value, np.float32)))
        return "f32", ()
    if hasattr(value, "__array__"):
        core = to_core(value)
        inputs.append(core)
        return core.dtype, core.shape
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"an argument of type {type(value).__name__} can be neither an array nor a fixed value of a compiled "
            "function (it is not hashable); pass arrays, numbers, strings, or tuples, lists and dicts of them"
        ) from None
    return value


def rebuild(value: Any, inputs: Iterator[Tensor], scalars: bool) -> Any:
    """The argument with its arrays replaced by traced inputs, in the order of `describe`."""
    if isinstance(value, Tensor):
        return next(inputs)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (tuple, list)):
        parts = [rebuild(v, inputs, scalars) for v in value]
        if isinstance(value, list):
            return parts
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {k: rebuild(v, inputs, scalars) for k, v in value.items()}
    if isinstance(value, float) and not isinstance(value, np.generic):
        return next(inputs) if scalars else value
    return next(inputs) if hasattr(value, "__array__") else value


def traced_inputs(active: trace.Trace, cores: Sequence[_core.Tensor]) -> Iterator[Tensor]:
    """An input of the graph for each tensor."""
    ids = [active.input(f"x{i}", c.dtype, c.shape) for i, c in enumerate(cores)]
    return iter([Tensor(None, active, i) for i in ids])


class Outputs:
    """How a traced function's result is made again from the program's outputs."""

    def __init__(self, active: trace.Trace, result: Any) -> None:
        leaves: list[Any] = []
        self.structure = pytree.flatten(result, leaves)
        self.fixed = [None if isinstance(v, Tensor) else v for v in leaves]
        self.computed = [isinstance(v, Tensor) for v in leaves]
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                # A leaf of the graph (an input, a parameter) leaves as a copy: programs hand out fresh memory.
                value = active.value_of(leaf)
                active.graph.output(f"out{i}", active.graph.emit("copy", [value], {})[0])
        self.single = self.structure is None and self.computed[0]

    def restore(self, cores: Sequence[_core.Tensor]) -> Any:
        if self.single:
            return Tensor(cores[0])
        made = iter(cores)
        leaves = [Tensor(next(made)) if c else f for c, f in zip(self.computed, self.fixed, strict=True)]
        return pytree.unflatten(self.structure, iter(leaves))


def bind(graph: _core.Graph, states: dict[str, Variable]) -> _core.Program:
    """The program of a traced graph, with the memory of the parameters and buffers that it uses."""
    program = _core.Program(graph)
    for name, _, _ in program.states():
        program.bind(name, states[name].core)
    return program


class Cache:
    """Programs by signature; empties itself when a model changed, and warns when there are suspiciously many."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[Any, Any] = {}
        self.version = structure.version

    def get(self, key: Any) -> Any:
        if self.version != structure.version:
            self.entries.clear()
            self.version = structure.version
        return self.entries.get(key)

    def put(self, key: Any, entry: Any, inputs: Sequence[_core.Tensor]) -> Any:
        self.entries[key] = entry
        n = len(self.entries)
        if n == WARN_AFTER + 1 or (n > WARN_AFTER and n & (n - 1) == 0):
            shapes = ", ".join(str(c.shape) for c in inputs)
            warnings.warn(
                f"{self.name} has been compiled for {n} different signatures, now for inputs of shape {shapes}: each "
                "new shape or fixed value costs a compilation; pad to a few sizes, or pass changing numbers as arrays",
                stacklevel=4,
            )
        return entry


class Compiled:
    """A function that runs as one Program for each signature: arrays' shapes and dtypes, fixed values, training or not.

    Arrays and positional floats are inputs; ints, strings and keyword numbers are fixed values.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        name = getattr(function, "__qualname__", type(function).__name__)
        self.cache = Cache(name)
        self.__name__ = name
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if trace.current() is not None:
            return self.function(*args, **kwargs)
        inputs: list[_core.Tensor] = []
        key = (describe(args, inputs, True), describe(kwargs, inputs, False) if kwargs else None, trace.is_training())
        entry = self.cache.get(key)
        if entry is None:
            entry = self.cache.put(key, self._build(args, kwargs, inputs), inputs)
        program, outputs = entry
        return outputs.restore(program.run(inputs))

    def _build(self, args: Any, kwargs: Any, inputs: Sequence[_core.Tensor]) -> tuple[_core.Program, Outputs]:
        with trace.Trace(trace.is_training()) as active:
            feed = traced_inputs(active, inputs)
            made, named = rebuild(args, feed, True), rebuild(kwargs, feed, False)
            outputs = Outputs(active, self.function(*made, **named))
        return bind(active.graph, active.states), outputs

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def compile(function: Callable[..., Any]) -> Compiled:
    """The function, traced once for each signature of its arguments and run as one planned Program.

    Outputs may be nested tuples, lists and dicts. Python's own control flow is traced as it runs: it may depend on
    shapes and fixed values, not on the numbers in tensors (TraceError).
    """
    return Compiled(function)
