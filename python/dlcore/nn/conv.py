"""Convolutional layers."""

from __future__ import annotations

from typing import Any

from dlcore.creation import zeros
from dlcore.nn import convolution as C
from dlcore.nn import init
from dlcore.nn.module import Module
from dlcore.tensor import Tensor
from dlcore.variable import Parameter


class _Conv(Module):
    """What all share: the options, the weight (out, in/groups, *kernel) and its first values."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any,
        groups: int, bias: bool, transposed: bool = False,
    ) -> None:  # fmt: skip
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{in_channels} and {out_channels} channels do not fall into {groups} equal groups")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(zeros((first, second // groups, *kernel)))
        self.bias = Parameter(zeros(out_channels)) if bias else None
        init.default_(self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", 0), ("dilation", 1), ("groups", 1)):
            value = getattr(self, name)
            if value != usual and value != (usual,) * len(self.kernel_size):
                text += f", {name}={value}"
        return text if self.bias is not None else text + ", bias=False"


def _mode(padding_mode: str) -> None:
    if padding_mode != "zeros":
        raise ValueError(f"padding_mode {padding_mode!r} is not supported; use 'zeros'")


def _one(value: Any) -> Any:
    return value if isinstance(value, str) else (C.single(value),)


def _two(value: Any, name: str) -> Any:
    return value if isinstance(value, str) else C.pair(value, name)


def _three(value: Any, name: str) -> Any:
    return value if isinstance(value, str) else C.triple(value, name)


class Conv2d(_Conv):
    """(N, in, H, W) → (N, out, H', W'); padding may be "same" or "valid"."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        _mode(padding_mode)
        super().__init__(
            in_channels, out_channels, C.pair(kernel_size, "kernel_size"), C.pair(stride, "stride"),
            _two(padding, "padding"), C.pair(dilation, "dilation"), groups, bias,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return C.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv3d(_Conv):
    """(N, in, D, H, W) → (N, out, D', H', W'); padding may be "same" or "valid"."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        _mode(padding_mode)
        super().__init__(
            in_channels, out_channels, C.triple(kernel_size, "kernel_size"), C.triple(stride, "stride"),
            _three(padding, "padding"), C.triple(dilation, "dilation"), groups, bias,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return C.conv3d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """(N, in, L) → (N, out, L')."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        _mode(padding_mode)
        super().__init__(
            in_channels, out_channels, _one(kernel_size), _one(stride), _one(padding), _one(dilation), groups, bias
        )

    def forward(self, x: Tensor) -> Tensor:
        return C.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(_Conv):
    """(N, in, H, W) → (N, out, H', W') by the adjoint of a convolution; the weight is (in, out/groups, KH, KW)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        _mode(padding_mode)
        super().__init__(
            in_channels, out_channels, C.pair(kernel_size, "kernel_size"), C.pair(stride, "stride"),
            C.pair(padding, "padding"), C.pair(dilation, "dilation"), groups, bias, transposed=True,
        )  # fmt: skip
        self.output_padding = C.pair(output_padding, "output_padding")

    def forward(self, x: Tensor) -> Tensor:
        return C.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose1d(_Conv):
    """(N, in, L) → (N, out, L')."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        _mode(padding_mode)
        super().__init__(
            in_channels, out_channels, _one(kernel_size), _one(stride), _one(padding), _one(dilation), groups, bias,
            transposed=True,
        )  # fmt: skip
        self.output_padding = _one(output_padding)

    def forward(self, x: Tensor) -> Tensor:
        return C.conv_transpose1d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
