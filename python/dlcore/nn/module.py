"""Module: a tree of parameters, buffers and further modules, found among an object's attributes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from dlcore import trace
from dlcore.dtype import as_dtype
from dlcore.nn import report
from dlcore.tensor import Tensor, as_tensor, cast_to
from dlcore.variable import Buffer, Parameter, Variable, structure

Self = TypeVar("Self", bound="Module")


class Module:
    """A layer or a whole model: Parameters, Buffers and Modules among its attributes (lists, dicts) belong to it.

    `forward` computes; there is no mode to set: training behaviour comes from `dl.train_step` and `with dl.training()`.
    """

    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        local = trace._local
        outermost = local.layers is None
        if outermost:
            local.layers = {id(m): name for name, m in self.named_modules()}
            if local.trace is not None:
                local.trace.name(self._variables())
        assert local.layers is not None
        local.path.append(local.layers.get(id(self)) or type(self).__name__)
        try:
            return self.forward(*args, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            _place(error, local.path[-1])
            raise
        finally:
            local.path.pop()
            if outermost:
                local.layers = None

    def __setattr__(self, name: str, value: Any) -> None:
        # A change of what was traced makes programs stale; additions, and changes by forward itself, do not.
        held = self.__dict__
        if name in held and held[name] is not value and trace.current() is None:
            structure.version += 1
        held[name] = value

    def __delattr__(self, name: str) -> None:
        structure.version += 1
        object.__delattr__(self, name)

    # Discovery.
    def _members(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of the attributes that are variables or modules, containers opened."""
        for name, value in self.__dict__.items():
            yield from _open(name, value)

    def children(self) -> Iterator[Module]:
        return (m for _, m in self.named_children())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((n, v) for n, v in self._members() if isinstance(v, Module))

    def named_modules(self, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module ("") and all below it, each once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        return (m for _, m in self.named_modules())

    def _variables(self) -> dict[str, Variable]:
        """Every parameter and buffer by path, in order of definition; shared ones under each of their names."""
        found: dict[str, Variable] = {}
        self._collect("", found)
        return found

    def _collect(self, prefix: str, found: dict[str, Variable]) -> None:
        members = list(self._members())
        for kind in (Parameter, Buffer, Module):  # PyTorch's order of keys
            for name, value in members:
                if isinstance(value, kind):
                    if isinstance(value, Module):
                        value._collect(f"{prefix}{name}.", found)
                    else:
                        found[prefix + name] = cast(Variable, value)

    def _named(self, kind: type[Any]) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for name, value in self._variables().items():
            if isinstance(value, kind) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), each once."""
        return self._named(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        return self._named(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        return (b for _, b in self.named_buffers())

    def register_buffer(self, name: str, value: Any) -> None:
        setattr(self, name, value if value is None or isinstance(value, Buffer) else Buffer(value))

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        setattr(self, name, value)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Learns all parameters from here on, or (False) fixes them."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def apply(self: Self, function: Callable[[Module], Any]) -> Self:
        """Calls the function with every module below this one, then with this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def astype(self: Self, dtype: Any) -> Self:
        """All float parameters and buffers in another float type."""
        to = as_dtype(dtype)
        for variable in self._variables().values():
            if variable.dtype.is_float:
                variable._core = cast_to(variable, to).core
        structure.version += 1
        return self

    # Saving and loading.
    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and buffer by path, as they are (not copies); keys and order are PyTorch's."""
        return dict(self._variables())

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copies values in by name; they may be NumPy arrays, PyTorch or dlcore tensors.

        What is missing, unexpected or of another shape is printed as a report. With `strict`, missing and unexpected
        keys raise KeyError and shapes that differ ValueError, before anything is changed; else what fits is loaded.
        """
        own = self._variables()
        missing = [k for k in own if k not in state]
        unexpected = [k for k in state if k not in own]
        values = {k: as_tensor(v) for k, v in state.items() if k in own}
        shapes = [(k, own[k].shape, v.shape) for k, v in values.items() if own[k].shape != v.shape]
        if missing or unexpected or shapes:
            text = report.loading(missing, unexpected, shapes)
            print(text)
            if strict and (missing or unexpected):
                raise KeyError(report.Text(f"load_state_dict: the keys do not agree (strict=True)\n{text}"))
            if strict:
                raise ValueError(f"load_state_dict: shapes differ (strict=True)\n{text}")
        differ = {k for k, _, _ in shapes}
        for name, value in values.items():
            if name not in differ:
                own[name].assign(value)

    def save(self, path: str | os.PathLike[str]) -> None:
        """The state dict as a safetensors file."""
        from safetensors.numpy import save_file

        save_file({k: np.asarray(v.numpy(), order="C") for k, v in self._variables().items()}, os.fspath(path))

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> None:
        """Loads a safetensors file, as load_state_dict does."""
        from safetensors.numpy import load_file

        self.load_state_dict(load_file(os.fspath(path)), strict)

    # For reading.
    def summary(self, input_shape: tuple[int, ...], dtype: Any = "float32") -> str:
        """A table of layers with their output shapes and numbers of parameters; `input_shape` counts a batch's rows."""
        text = report.summary(self, input_shape, as_dtype(dtype))
        print(text)
        return text

    def extra_repr(self) -> str:
        """What __repr__ shows between the brackets of a layer without children."""
        return ""

    def __repr__(self) -> str:
        children = [f"({n}): " + repr(m).replace("\n", "\n  ") for n, m in self.named_children()]
        head = type(self).__name__
        if not children:
            return f"{head}({self.extra_repr()})"
        lines = [self.extra_repr(), *children] if self.extra_repr() else children
        return f"{head}(\n  " + "\n  ".join(lines) + "\n)"


def _place(error: Exception, path: str) -> None:
    """Messages of operations ("[conv2d] …") also name the innermost layer."""
    text = error.args[0] if len(error.args) == 1 else None
    if isinstance(text, str) and text.startswith("[") and "(in layer '" not in text:
        error.args = (f"{text} (in layer '{path}')",)


def _open(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Variable, Module)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            yield from _open(f"{name}.{i}", v)
    elif isinstance(value, dict):
        for k, v in value.items():
            yield from _open(f"{name}.{k}", v)
