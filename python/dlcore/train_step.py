"""dl.train_step: forward, derivative and update of a model as one Program, run by one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlcore import _core, trace
from dlcore.compile import Cache, Outputs, bind, describe, rebuild, traced_inputs
from dlcore.errors import TraceError
from dlcore.nn.module import Module
from dlcore.optim.optimizer import Optimizer
from dlcore.profile import table
from dlcore.tensor import Tensor


class TrainStep:
    """A loss function turned into a step of training. Calling it updates model and optimizer and gives the loss."""

    def __init__(self, function: Callable[..., Any], model: Module, optimizer: Optimizer) -> None:
        self.function = function
        self.model = model
        self.optimizer = optimizer
        name = getattr(function, "__qualname__", type(function).__name__)
        self.cache = Cache(name)
        self.__name__ = name
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if trace.current() is not None:
            raise TraceError("a train_step cannot be part of another traced function: call it outside")
        inputs: list[_core.Tensor] = []
        applies = self.optimizer.applies()
        program, outputs, scalars = self._entry(args, kwargs, inputs, applies)
        result = outputs.restore(program.run(inputs + scalars() if applies else inputs))
        self.optimizer.advance()
        return result

    def profile(self, *args: Any, repeat: int = 10) -> str:
        """Time, GFLOP/s or GB/s and bytes of each kernel of a step on this batch, the slowest first; trains nothing."""
        program, inputs = self._planned(args)
        return table(program.profile(inputs, repeat))

    def memory(self, *args: Any) -> list[tuple[str, str, int]]:
        """(op, layer, bytes in use) while each node of a step on this batch runs: `plots.memory` draws it."""
        return self._planned(args)[0].memory()

    def _planned(self, args: Any) -> tuple[_core.Program, list[_core.Tensor]]:
        inputs: list[_core.Tensor] = []
        applies = self.optimizer.applies()
        program, _, scalars = self._entry(args, {}, inputs, applies)
        return program, inputs + scalars() if applies else inputs

    def _entry(self, args: Any, kwargs: Any, inputs: list[_core.Tensor], applies: bool) -> Any:
        key = (describe(args, inputs, True), describe(kwargs, inputs, False) if kwargs else None, applies)
        entry = self.cache.get(key)
        if entry is None:
            entry = self.cache.put(key, self._build(args, kwargs, inputs, applies), inputs)
        return entry

    def run_batches(
        self, columns: Sequence[_core.Tensor], order: _core.Tensor, batch: int, first: int, count: int, seconds: float
    ) -> tuple[int, Any]:
        """Steps on batches `first` … of rows taken from columns in memory, without Python between them.

        Runs at most `count` steps, those that begin within `seconds`; gives their number and the function's results,
        each tensor stacked over the steps. For optimizers that update at every step (`accumulate=1`).
        """
        example = tuple(Tensor(_core.Tensor(c.dtype, (batch, *c.shape[1:]))) for c in columns)
        program, outputs, scalars = self._entry(example, {}, [], True)
        stacked = program.run_batches(columns, order, first, count, scalars.stacked(count), seconds)
        done = int(stacked[0].shape[0])
        for _ in range(done):
            self.optimizer.advance()
        return done, outputs.restore(stacked)

    def _build(self, args: Any, kwargs: Any, inputs: list[_core.Tensor], applies: bool) -> Any:
        graph_inputs = len(inputs)
        with trace.Trace(training=True) as active:
            active.name(self.model._variables())
            feed = traced_inputs(active, inputs)
            made, named = rebuild(args, feed, True), rebuild(kwargs, feed, False)
            result = self.function(*made, **named)
            loss = result[0] if isinstance(result, tuple) and result else result
            self._check(loss)
            learnt = {n: p for n, p in self.model.named_parameters() if p.requires_grad and active.uses(p)}
            if not learnt:
                raise ValueError("[train_step] the loss depends on no parameter of the model that requires gradients")
            ids = active.graph.grad(active.value_of(loss), [active.leaf_of(p) for p in learnt.values()])
            gradients = {n: Tensor(None, active, i) for n, i in zip(learnt, ids, strict=True)}
            self.optimizer.prepare(learnt)
            scalars = self.optimizer.emit(active, learnt, gradients, applies)
            outputs = Outputs(active, result)
        program = bind(active.graph, active.states)
        assert len(program.inputs()) == graph_inputs + (len(scalars()) if applies else 0)
        return program, outputs, scalars

    def _check(self, loss: Any) -> None:
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"[train_step] the function must return a loss (or a tuple that starts with it), got {loss!r}"
            )
        if loss.ndim:
            raise ValueError(
                f"[train_step] the loss must be a scalar, got shape {loss.shape}; reduce it with mean or sum"
            )


def train_step(model: Module, optimizer: Optimizer) -> Callable[[Callable[..., Any]], TrainStep]:
    """Decorates a function of a batch that returns a scalar loss, or (loss, aux…).

    Each call runs forward in training mode, the derivative by the model's parameters that require gradients, and the
    optimizer's update as one Program, traced once for each signature of the arguments; it returns what the function
    returned, computed with the parameters before the update.
    """
    if not isinstance(model, Module):
        raise TypeError(f"train_step takes a model first, got {type(model).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"train_step takes an optimizer second, got {type(optimizer).__name__}")

    def decorate(function: Callable[..., Any]) -> TrainStep:
        return TrainStep(function, model, optimizer)

    return decorate
