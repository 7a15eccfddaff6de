"""Freezing takes scales and shifts behind constant weights into them; the function stays the same up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlcore import _core

RNG = np.random.default_rng(5)
CONV = {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1]}


class Net:
    """A graph over float64 constants, whose results are compared without and with the pass."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.g = _core.Graph()
        self.x = self.g.input("x", "f64", list(shape))
        self.shape, self.count = shape, 0

    def const(self, *shape: int) -> int:
        self.count += 1
        return self.g.const(f"c{self.count}", _core.Tensor.from_numpy(RNG.standard_normal(shape) + 2, copy=True))

    def emit(self, op: str, *inputs: int, **attrs: Any) -> int:
        return self.g.emit(op, list(inputs), attrs)[0]

    def check(self, y: int, passes: list[str]) -> list[str]:
        self.g.output("y", y)
        x = _core.Tensor.from_numpy(RNG.standard_normal(self.shape))
        got = self.g.optimize(passes)
        got.verify()
        want, have = (_core.Program(g, passes=[]).run([x])[0].numpy() for g in (self.g, got))
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())
        return [node[0] for node in got.nodes()]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_batch_norm_behind_a_convolution(layout: str, groups: int) -> None:
    net = Net((2, 4, 5, 6) if layout == "nchw" else (2, 5, 6, 4))
    channels = (6, 1, 1) if layout == "nchw" else (6,)
    y = net.emit("conv2d", net.x, net.const(6, 4 // groups, 3, 3), groups=groups, layout=layout, **CONV)
    y = net.emit("add", net.const(*channels), y)
    y = net.emit("sub", y, net.const(1, *channels))
    y = net.emit("add", net.emit("mul", y, net.const(*channels)), net.const(*channels))
    assert net.check(net.emit("relu", y), ["absorb"]) == ["conv2d", "add", "relu"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_scale_behind_a_product_and_a_transposition_before_it(transposed: int) -> None:
    net = Net((3, 2, 4, 5))
    flat = net.emit("reshape", net.emit("transpose", net.x, perm=[0, 3, 1, 2]), shape=[3, 40])
    w = net.const(7, 40) if transposed else net.const(40, 7)
    y = net.emit("matmul", flat, w, transpose_a=0, transpose_b=transposed)
    y = net.emit("mul", net.emit("add", y, net.const(7)), net.const(1, 7))
    assert net.check(y, ["absorb"]) == ["reshape", "matmul", "add"]


def test_what_is_read_elsewhere_stays() -> None:
    net = Net((2, 4, 5, 6))
    y = net.emit("conv2d", net.x, net.const(6, 4, 3, 3), groups=1, layout="nchw", **CONV)
    scaled = net.emit("mul", y, net.const(6, 1, 1))
    assert net.check(net.emit("add", scaled, y), ["absorb"]) == ["conv2d", "mul", "add"]


def test_a_scale_by_position_stays() -> None:
    net = Net((2, 4, 5, 6))
    y = net.emit("conv2d", net.x, net.const(6, 4, 3, 3), groups=1, layout="nchw", **CONV)
    assert net.check(net.emit("mul", y, net.const(5, 6)), ["absorb"]) == ["conv2d", "mul"]


def test_a_shift_alone_keeps_its_rounding() -> None:
    net = Net((3, 4))
    y = net.emit("add", net.emit("matmul", net.x, net.const(4, 5), transpose_a=0, transpose_b=0), net.const(5))
    assert net.check(y, ["absorb"]) == ["matmul", "add"]
    assert "absorbed" not in net.g.optimize(["absorb"]).text()
