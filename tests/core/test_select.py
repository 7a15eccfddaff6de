"""The pass `select`: which algorithm a convolution gets, by its shape alone."""

from __future__ import annotations

from typing import Any

import pytest

from dlcore import _core

DIRECTIONS = ("conv2d", "conv2d_backward_data", "conv2d_backward_weight")


def attributes(op: str, size: int, kernel: int, **more: Any) -> dict[str, Any]:
    attrs = {"stride": [2, 2], "padding": [1] * 4, "dilation": [1, 1], "groups": 1, "layout": "nhwc", **more}
    extra = {"conv2d_backward_data": {"input_size": [size, size]}, "conv2d_backward_weight": {"kernel": [kernel] * 2}}
    return attrs | extra.get(op, {})


def inputs_of(g: _core.Graph, op: str, size: int, out: list[int], channels: tuple[int, int], w: list[int]) -> list[int]:
    x, y = [4, size, size, channels[0]], [4, *out, channels[1]]
    shapes = {"conv2d": (x, w), "conv2d_backward_data": (y, w), "conv2d_backward_weight": (x, y)}[op]
    return [g.input(f"x{i}", "f32", shape) for i, shape in enumerate(shapes)]


def chosen(op: str, channels: tuple[int, int], size: int, kernel: int, passes: str = "select", **more: Any) -> str:
    out = (size + 2 - kernel) // more.get("stride", [2])[0] + 1
    w = [channels[1], channels[0] // more.get("groups", 1), kernel, kernel]
    g = _core.Graph()
    inputs = inputs_of(g, op, size, [out, out], channels, w)
    g.output("y", g.emit(op, inputs, attributes(op, size, kernel, **more))[0])
    text = g.optimize([passes]).text()
    return text.split('algorithm="')[1].split('"')[0] if "algorithm" in text else ""


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "want"),
    [
        ((64, 128), 32, 3, "winograd4"), ((64, 128), 15, 3, "winograd4"), ((64, 128), 16, 4, "winograd4"),
        ((64, 128), 14, 4, "winograd4"),
        ((64, 128), 10, 3, ""),  # five outputs: tiles of eight
        ((64, 128), 9, 4, "winograd4"), ((64, 128), 5, 4, ""),  # of four, of two outputs
        ((16, 32), 32, 3, "winograd4"), ((16, 16), 32, 3, ""), ((8, 64), 32, 3, ""), ((64, 64), 32, 5, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("op", DIRECTIONS)
def test_stride_2(op: str, channels: tuple[int, int], size: int, kernel: int, want: str) -> None:
    assert chosen(op, channels, size, kernel) == want


def test_sizes_between() -> None:
    """Tiles that hang over the border pay for the gradient of the weights first."""
    assert [chosen(op, (64, 128), 28, 3) for op in DIRECTIONS] == ["", "", "winograd4"]


@pytest.mark.parametrize(
    ("channels", "groups", "want"),
    [
        ((256, 256), 8, ("winograd4", "winograd4")), ((192, 192), 8, ("winograd4", "winograd4")),
        ((64, 64), 4, ("winograd4", "winograd4")), ((256, 256), 16, ("", "winograd4")), ((64, 64), 8, ("", "")),
    ],
)  # fmt: skip
def test_groups(channels: tuple[int, int], groups: int, want: tuple[str, str]) -> None:
    found = [chosen(op, channels, 16, 3, stride=[1, 1], groups=groups) for op in DIRECTIONS]
    assert found == [want[0], want[0], want[1]]


def test_others_stay_direct() -> None:
    assert chosen("conv2d", (64, 64), 32, 3, groups=2) == ""
    assert chosen("conv2d", (64, 64), 32, 3, stride=[2, 1]) == ""
    assert chosen("conv2d", (64, 64), 32, 3, dilation=[2, 2], padding=[2] * 4) == ""


def test_few_tiles_alone_stay_direct() -> None:
    assert chosen("conv2d", (64, 128), 16, 3, "select_latency") == "direct"
    assert chosen("conv2d", (64, 128), 32, 3, "select_latency") == "winograd4"


@pytest.mark.parametrize(
    ("kernel", "more"),
    [
        (5, {}), (3, {"dilation": [2, 2]}), (3, {"stride": [2, 1]}), (3, {"stride": [3, 3]}), (2, {}),
        (3, {"algorithm": "winograd2"}), (4, {"stride": [1, 1]}), (3, {"groups": 2}), (4, {"groups": 2}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("op", DIRECTIONS)
def test_what_no_algorithm_exists_for_is_an_error(op: str, kernel: int, more: dict[str, Any]) -> None:
    attrs = attributes(op, 16, kernel, **{"algorithm": "winograd4", **more})
    reach = (kernel - 1) * attrs["dilation"][0] + 1
    out = [(16 + 2 - reach) // s + 1 for s in attrs["stride"]]
    g = _core.Graph()
    inputs = inputs_of(g, op, 16, out, (32, 32), [32, 32 // attrs["groups"], kernel, kernel])
    with pytest.raises(ValueError, match=f"the algorithm {attrs['algorithm']} needs stride 1"):
        g.emit(op, inputs, attrs)


def test_a_depth_and_groups_are_an_error() -> None:
    g = _core.Graph()
    x, w = g.input("x", "f32", [1, 4, 8, 8, 64]), g.input("w", "f32", [64, 32, 1, 3, 3])
    attrs = {"stride": [1] * 3, "padding": [0, 0, 1, 1, 1, 1], "dilation": [1] * 3, "groups": 2, "layout": "ndhwc"}
    with pytest.raises(ValueError, match="groups 1 for images with a depth"):
        g.emit("conv3d", [x, w], {**attrs, "algorithm": "winograd4"})
