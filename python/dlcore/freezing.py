"""dl.freeze: a model with its parameters fixed becomes a Program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlcore import trace
from dlcore.data.transforms import CharTokenizer
from dlcore.nn.module import Module
from dlcore.program import ROWS, Program
from dlcore.tensor import Tensor, to_core

# What is decided when freezing and written into the file; how it runs on a processor is planned where it is loaded.
_PASSES = ["simplify", "fold", "layout", "simplify", "fold", "absorb"]


def freeze(
    model: Module,
    example: Any,
    preprocess: Callable[[Tensor], Tensor] | CharTokenizer | None = None,
    classes: Sequence[str] | None = None,
    optimize: str = "throughput",
    kind: str | None = None,
) -> Program:
    """The model as a program for any number of rows.

    example: an input with the shape and dtype of the data (its rows are not looked at), or a tuple of several.
    preprocess: applied to the first input inside the program (`data.Normalize`), so that it takes raw data; a
        `data.CharTokenizer` is kept beside it, so that it takes text.
    classes: names of the classes. kind: "classes", "binary" or "values"; by default classes where names are given.
    optimize: "latency" for few rows at a time, "throughput" for many.
    """
    examples = example if isinstance(example, tuple) else (example,)
    cores = [to_core(e) for e in examples]
    for i, core in enumerate(cores):
        if not core.shape:
            raise ValueError(f"freeze: example {i} should have rows on its first axis, got a single value")
    tokenizer = preprocess if isinstance(preprocess, CharTokenizer) else None
    with trace.Trace(training=False, batch=ROWS) as active:
        active.name(model._variables())
        ids = [
            active.input(f"x{i}" if len(cores) > 1 else "x", c.dtype, (ROWS, *c.shape[1:])) for i, c in enumerate(cores)
        ]
        inputs = [Tensor(None, active, i) for i in ids]
        if preprocess is not None and tokenizer is None:
            inputs[0] = preprocess(inputs[0])  # type: ignore[operator]
        result = model(*inputs)
        outputs = result if isinstance(result, tuple) else (result,)
        for i, out in enumerate(outputs):
            if not isinstance(out, Tensor):
                raise TypeError(f"freeze: the model's output {i} is no tensor but {type(out).__name__}")
            value = active.value_of(out)
            active.graph.output(f"y{i}" if len(outputs) > 1 else "y", active.graph.emit("copy", [value], {})[0])
    graph = active.graph.freeze({name: variable.core for name, variable in active.states.items()})
    if kind is None:
        kind = "values" if classes is None else "classes"
    select = "select_latency" if optimize == "latency" else "select"
    return Program(graph.optimize([*_PASSES, select, "simplify"]), kind, classes, tokenizer, optimize)
