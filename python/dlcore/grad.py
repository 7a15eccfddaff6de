"""Gradients of functions of tensors, with respect to arguments or to a module's parameters; they may be nested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlcore import pytree, trace
from dlcore.compile import Compiled
from dlcore.nn.module import Module
from dlcore.tensor import Tensor, as_tensor
from dlcore.variable import Parameter


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that gives `(value, gradient)` of a scalar function of tensors.

    The gradient has the form of argument `argnums` (a tuple of gradients for several). For a Module it is a dict by
    parameter name, of the parameters that require gradients. With `has_aux` the function returns (scalar, aux), and so
    does the value. ValueError if the result is no scalar, TypeError if an argument is not of floats.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def traced(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        active = trace.current()
        assert active is not None
        wanted = [_Argument(active, args, n) for n in numbers]
        inner = list(args)
        for w in wanted:
            inner[w.position] = w.copy
        substitutes = [pair for w in wanted for pair in w.substitutes]
        with active.substitute(substitutes):
            result = function(*inner, **kwargs)
        value = _scalar(result[0] if has_aux else result)
        ids = active.graph.grad(active.value_of(value), [i for w in wanted for i in w.ids])
        found = iter([Tensor(None, active, i) for i in ids])
        gradients = [w.restore(found) for w in wanted]
        return result, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    compiled = Compiled(traced)
    compiled.__name__ = compiled.cache.name = f"value_and_grad({getattr(function, '__qualname__', function)})"
    return compiled


def grad(function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of a scalar function of tensors (`(gradient, aux)` with has_aux)."""
    both = value_and_grad(function, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


class _Argument:
    """An argument to differentiate by: its values are copied first, so that only its use inside the function counts."""

    def __init__(self, active: trace.Trace, args: tuple[Any, ...], number: int) -> None:
        if not -len(args) <= number < len(args):
            raise IndexError(f"argnums {number}: the function was called with {len(args)} positional arguments")
        self.position = number % len(args)
        value = args[self.position]
        self.names: list[str] = []
        self.substitutes: list[tuple[Parameter, int]] = []
        self.ids: list[int] = []
        self.copy: Any = value
        if isinstance(value, Module):
            active.name(value._variables())
            for name, p in value.named_parameters():
                if p.requires_grad:
                    self.names.append(name)
                    self.ids.append(active.emit("copy", [active.value_of(p)], {})[0])
                    self.substitutes.append((p, self.ids[-1]))
            return
        leaves: list[Any] = []
        self.structure = pytree.flatten(value, leaves)
        for leaf in leaves:
            source = as_tensor(leaf)
            if not source.dtype.is_float:
                raise TypeError(f"[grad] argument {number} holds {source.dtype}; gradients are of floats (use .astype)")
            self.ids.append(active.emit("copy", [active.value_of(source)], {})[0])
        self.copy = pytree.unflatten(self.structure, iter([Tensor(None, active, i) for i in self.ids]))

    def restore(self, found: Any) -> Any:
        if isinstance(self.copy, Module):
            return {name: next(found) for name in self.names}
        return pytree.unflatten(self.structure, found)


def _scalar(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"[grad] the function must return a tensor, got {type(value).__name__}")
    if value.size != 1 or value.ndim:
        raise ValueError(
            f"[grad] the function must return a scalar, got shape {value.shape}; reduce it with mean or sum"
        )
    return value
