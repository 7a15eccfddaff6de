"""Modules made of modules, and those that only change shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dlcore import shaping
from dlcore.nn import convolution as C
from dlcore.nn.module import Module
from dlcore.tensor import Tensor
from dlcore.variable import structure


class _Held(Module):
    """Children under names of their own rather than attributes."""

    def __init__(self) -> None:
        self._children: dict[str, Module] = {}

    def _members(self) -> Iterator[tuple[str, Any]]:
        return iter(self._children.items())

    def _put(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} takes modules, got {type(module).__name__} for '{name}'")
        if name in self._children:
            structure.version += 1
        self._children[name] = module

    def __getattr__(self, name: str) -> Module:
        try:
            return self.__dict__["_children"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no '{name}'") from None

    def __len__(self) -> int:
        return len(self._children)


class _Row(_Held):
    """Children in a row, named by their number."""

    def _name(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"module {index} of {len(self)} does not exist")
        return list(self._children)[index]

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            chosen = list(self._children.values())[index]
            return Sequential(*chosen) if isinstance(self, Sequential) else ModuleList(chosen)
        return self._children[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self._put(self._name(index), module)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children.values())

    def append(self, module: Module) -> Any:
        self._put(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        for m in modules:
            self.append(m)
        return self


class Sequential(_Row):
    """One module after another; takes modules, or one dict of them by name."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, m in modules[0].items():
                self._put(name, m)
        else:
            for i, module in enumerate(modules):
                self._put(str(i), module)

    def forward(self, x: Any) -> Any:
        for module in self._children.values():
            x = module(x)
        return x


class ModuleList(_Row):
    """A list of modules; what is computed with them is for its owner to say."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)


class ModuleDict(_Held):
    """A dict of modules."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, m in (modules or {}).items():
            self._put(name, m)

    def __getitem__(self, name: str) -> Module:
        return self._children[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self._put(name, module)

    def __contains__(self, name: object) -> bool:
        return name in self._children

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def keys(self) -> Iterable[str]:
        return self._children.keys()

    def values(self) -> Iterable[Module]:
        return self._children.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._children.items()


class Identity(Module):
    """Its input."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Any arguments are taken and not used."""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Axes start_dim … end_dim as one: (N, C, H, W) → (N, C·H·W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return shaping.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis as several."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        axis = shaping.axis_of(self.dim, x.ndim, "Unflatten")
        return x.reshape(*x.shape[:axis], *self.unflattened_size, *x.shape[axis + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Upsample(Module):
    """Images resized by repeating the nearest pixel."""

    def __init__(self, size: Any = None, scale_factor: Any = None, mode: str = "nearest") -> None:
        self.size, self.scale_factor, self.mode = size, scale_factor, mode

    def forward(self, x: Tensor) -> Tensor:
        return C.interpolate(x, self.size, self.scale_factor, self.mode)

    def extra_repr(self) -> str:
        what = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{what}, mode={self.mode!r}"


class ZeroPad2d(Module):
    """Zeros around images: a number, or (left, right, top, bottom)."""

    def __init__(self, padding: Any) -> None:
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return C.zero_pad2d(x, self.padding)

    def extra_repr(self) -> str:
        return str(self.padding)


class PixelShuffle(Module):
    """(N, C·r², H, W) → (N, C, H·r, W·r)."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        return C.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"
