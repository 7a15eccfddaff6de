"""Parameters and buffers: tensors whose memory stays in place while programs update it."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from dlcore import trace
from dlcore.errors import TraceError, user_frame
from dlcore.tensor import Tensor, TensorLike, as_tensor, cast_to


class Variable(Tensor):
    """A tensor whose memory stays in place while its contents change: what parameters and buffers are."""

    __slots__ = ()
    role: ClassVar[str] = "state"

    def __init__(self, data: TensorLike) -> None:
        source = as_tensor(data)
        if source.is_traced:
            raise TraceError(
                f"{user_frame()}: a parameter or buffer is made while tracing: make modules before the call"
            )
        super().__init__(source.core.clone())

    def assign(self, value: TensorLike) -> None:
        """New contents of the same shape (cast to this dtype). In a trace they take effect when the program runs."""
        new = as_tensor(value, self.dtype)
        new = cast_to(new, self.dtype)
        if new.shape != self.shape:
            raise ValueError(f"[assign] expected shape {self.shape}, got {new.shape}")
        active = trace.current()
        if active is not None:
            active.assign(self, active.value_of(new))
        else:
            self.core.copy_from(new.core)

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        made = type(self).__new__(type(self))
        Tensor.__init__(made, self.core.clone())
        memo[id(self)] = made
        return made


class Buffer(Variable):
    """State of a module that is saved with it and no gradient reaches, such as running statistics."""

    __slots__ = ()


class Parameter(Variable):
    """Numbers to be learnt. `requires_grad=False` fixes them."""

    __slots__ = ("_requires_grad",)
    role: ClassVar[str] = "param"

    def __init__(self, data: TensorLike, requires_grad: bool = True) -> None:
        super().__init__(data)
        self._requires_grad = requires_grad

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value != self._requires_grad:
            self._requires_grad = value
            structure.version += 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        made = cast(Parameter, super().__deepcopy__(memo))
        made._requires_grad = self._requires_grad
        return made

    def __repr__(self) -> str:
        return "Parameter containing: " + super().__repr__()


class _Structure:
    """Counts changes of models that make programs traced before stale (see Module.__setattr__)."""

    version = 0


structure = _Structure()
