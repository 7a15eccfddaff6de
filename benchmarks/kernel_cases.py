"""The cases of the kernel benchmark: an op with its shapes for dlcore, the same for PyTorch and NumPy, and its work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx_peer import onnx_peer

from dlcore import _core

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


@dataclass
class Case:
    family: str
    name: str
    op: str
    arrays: list[Array]
    attrs: dict[str, Any]
    flops: float = 0.0  # GFLOP/s where given, else GB/s of `bytes`
    bytes: float = 0.0
    peers: dict[str, Callable[[], Callable[[], Any]]] = field(default_factory=dict)
    dtype: str = ""  # the arrays are cast to it before they are timed

    def emit(self, graph: _core.Graph, inputs: list[int], attrs: dict[str, Any]) -> list[int]:
        """The values to compute of the arrays."""
        return graph.emit(self.op, inputs, attrs)

    def program(self, arrays: list[Array], attrs: dict[str, Any], **options: Any) -> Callable[[], list[_core.Tensor]]:
        """The case alone, planned as in a program."""
        graph = _core.Graph()
        tensors = [_core.Tensor.from_numpy(a, copy=True) for a in arrays]
        if self.dtype and arrays is self.arrays:
            tensors = [_core.run_op("cast", [t], {"dtype": self.dtype})[0] for t in tensors]
        ids = [graph.input(f"x{i}", t.dtype, t.shape) for i, t in enumerate(tensors)]
        for i, value in enumerate(self.emit(graph, ids, attrs)):
            graph.output(f"y{i}", value)
        program = _core.Program(graph, **options)
        return lambda: program.run(tensors)

    def ours(self) -> Callable[[], list[_core.Tensor]]:
        return self.program(self.arrays, self.attrs, passes=[])

    def exact(self) -> Array | None:
        """The first output by the naive kernels in float64."""
        attrs = {k: v for k, v in self.attrs.items() if k != "algorithm"}
        wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in self.arrays]
        return self.program(wide, attrs, passes=[], backend="ref")()[0].numpy()


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def exact_bf16(*shape: int) -> Array:
    """float32 whose lower halves are zero: bfloat16 holds them exactly."""
    return (normal(*shape).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def torch_call(body: Callable[..., Any], *arrays: Array) -> Callable[[], Callable[[], Any]]:
    def build() -> Callable[[], Any]:
        import torch

        tensors = [torch.tensor(a) for a in arrays]

        def call() -> Any:
            with torch.no_grad():
                return body(*tensors)

        return call

    return build


def gemm() -> Iterator[Case]:
    shapes = [(n, n, n) for n in (128, 256, 512, 1024, 2048)]
    shapes += [
        (64, 128, 784),
        (4096, 64, 64),
        (32, 4096, 1024),
        (1024, 4096, 32),
        (32, 64, 64),
        (64, 10, 128),
        (8, 8, 8),
    ]
    for m, n, k in [*shapes, (1, 1024, 1024)]:
        for ta, tb in ((0, 0), (0, 1), (1, 0)):
            a, b = normal(*((k, m) if ta else (m, k))), normal(*((n, k) if tb else (k, n)))

            def numpy(a: Array = a, b: Array = b, ta: int = ta, tb: int = tb) -> Callable[[], Any]:
                return lambda: (a.T if ta else a) @ (b.T if tb else b)

            def body(x: Any, y: Any, ta: int = ta, tb: int = tb) -> Any:
                return (x.T if ta else x) @ (y.T if tb else y)

            name = f"{m}x{n}x{k} {'TN'[1 - ta]}{'TN'[1 - tb]}"
            attrs = {"transpose_a": ta, "transpose_b": tb}
            peers = {"torch": torch_call(body, a, b), "numpy": numpy}
            peers["onnxruntime"] = onnx_peer("Gemm", [a, b], transA=ta, transB=tb)
            yield Case("gemm", name, "matmul", [a, b], attrs, flops=2.0 * m * n * k, peers=peers)


def bf16() -> Iterator[Case]:
    for m, n, k in [*((n, n, n) for n in (128, 256, 512, 1024, 2048)), (64, 128, 784), (32, 4096, 1024)]:
        for ta, tb in ((0, 0), (0, 1), (1, 0)):
            a, b = exact_bf16(*((k, m) if ta else (m, k))), exact_bf16(*((n, k) if tb else (k, n)))

            def torch(a: Array = a, b: Array = b, ta: int = ta, tb: int = tb) -> Callable[[], Any]:
                import torch

                x, y = torch.tensor(a).bfloat16(), torch.tensor(b).bfloat16()
                return lambda: (x.T if ta else x) @ (y.T if tb else y)

            name = f"{m}x{n}x{k} {'TN'[1 - ta]}{'TN'[1 - tb]}"
            attrs = {"transpose_a": ta, "transpose_b": tb}
            peers = {"torch": torch}
            yield Case("bf16", name, "matmul", [a, b], attrs, flops=2.0 * m * n * k, peers=peers, dtype="bf16")


# name, n, channels in, size, channels out, kernel, stride, padding, dilation, groups
CONVS = [
    ("3x3 64@32²", 32, 64, 32, 64, 3, 1, 1, 1, 1), ("3x3 128@16²", 32, 128, 16, 128, 3, 1, 1, 1, 1),
    ("3x3 256@8²", 32, 256, 8, 256, 3, 1, 1, 1, 1), ("3x3 512@4²", 32, 512, 4, 512, 3, 1, 1, 1, 1),
    ("3x3 s2 64@32²", 32, 64, 32, 128, 3, 2, 1, 1, 1), ("1x1 256@16²", 32, 256, 16, 64, 1, 1, 0, 1, 1),
    ("7x7 s2 3@64²", 32, 3, 64, 64, 7, 2, 3, 1, 1), ("5x5 32@16²", 32, 32, 16, 64, 5, 1, 2, 1, 1),
    ("3x3 dilated 64@16²", 32, 64, 16, 64, 3, 1, 2, 2, 1), ("3x3 4 groups 64@16²", 32, 64, 16, 64, 3, 1, 1, 1, 4),
    ("3x3 depthwise 64@32²", 32, 64, 32, 64, 3, 1, 1, 1, 64),
    ("3x3 depthwise s2 96@56²", 8, 96, 56, 96, 3, 2, 1, 1, 96),
    ("5x5 depthwise 240@14²", 32, 240, 14, 240, 5, 1, 2, 1, 240),
    ("3x3 1@28²", 64, 1, 28, 32, 3, 1, 1, 1, 1), ("3x3 3@32²", 32, 3, 32, 64, 3, 1, 1, 1, 1),
    ("3x3 3@224²", 1, 3, 224, 64, 3, 1, 1, 1, 1), ("7x7 s2 3@224²", 1, 3, 224, 64, 7, 2, 3, 1, 1),
    ("3x3 32 groups 128@16²", 16, 128, 16, 128, 3, 1, 1, 1, 32),
    ("4x4 s2 32@32²", 16, 32, 32, 64, 4, 2, 1, 1, 1), ("2x2 s2 32@32²", 16, 32, 32, 64, 2, 2, 0, 1, 1),
]  # fmt: skip


# By the size of the kernel and the stride, as the pass `select` has it.
WINOGRAD = {(3, 1): "winograd4", (5, 1): "winograd2", (3, 2): "winograd4", (4, 2): "winograd4"}


def conv() -> Iterator[Case]:
    for name, n, ci, size, co, k, stride, pad, dilation, groups in CONVS:
        out = (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
        x, w, dy = normal(n, size, size, ci), normal(co, ci // groups, k, k), normal(n, out, out, co)
        attrs: dict[str, Any] = {
            "stride": [stride] * 2, "padding": [pad] * 4, "dilation": [dilation] * 2, "groups": groups,
            "layout": "nhwc",
        }  # fmt: skip
        work = 2.0 * n * out * out * co * (ci // groups) * k * k
        variants = [("direct", attrs)]
        if (k, stride) in WINOGRAD and ci // groups >= 16:
            variants.append(("winograd", {**attrs, "algorithm": WINOGRAD[k, stride]}))
            if k == 3 and stride == dilation == groups == 1:
                variants.append(("winograd 2x2", {**attrs, "algorithm": "winograd2"}))
        options = {"stride": stride, "padding": pad, "dilation": dilation, "groups": groups}
        for label, own in variants:
            for direction, op, arrays, extra in (
                ("forward", "conv2d", [x, w], {}),
                ("data", "conv2d_backward_data", [dy, w], {"input_size": [size, size]}),
                ("weight", "conv2d_backward_weight", [x, dy], {"kernel": [k, k]}),
            ):
                peers = {p: torch_conv(direction, x, w, dy, options, p) for p in ("torch nchw", "torch nhwc")}
                if direction == "forward":
                    peers["onnxruntime"] = onnx_conv(x, w, stride, pad, dilation, groups)
                yield Case(
                    "conv", f"{name} {direction}, {label}", op, arrays, {**own, **extra}, flops=work, peers=peers
                )
    yield from conv_1d_3d()


def onnx_conv(x: Array, w: Array, stride: int, pad: int, dilation: int, groups: int) -> Any:
    axes = x.ndim - 2
    return onnx_peer(
        "Conv", [np.ascontiguousarray(np.moveaxis(x, -1, 1)), w], strides=[stride] * axes, pads=[pad] * (2 * axes),
        dilations=[dilation] * axes, group=groups,
    )  # fmt: skip


def torch_conv(direction: str, x: Array, w: Array, dy: Array, options: dict[str, int], layout: str) -> Any:
    def build() -> Callable[[], Any]:
        import torch

        form = torch.channels_last if layout.endswith("nhwc") else torch.contiguous_format
        tx, tw, tdy = (torch.tensor(a) for a in (np.moveaxis(x, 3, 1), w, np.moveaxis(dy, 3, 1)))
        tx, tw, tdy = (t.contiguous(memory_format=form) for t in (tx, tw, tdy))
        mask = [direction == "data", direction == "weight", False]
        pairs = [[options[k]] * 2 for k in ("stride", "padding", "dilation")]

        def call() -> Any:
            with torch.no_grad():
                if direction == "forward":
                    return torch.nn.functional.conv2d(tx, tw, **options).permute(0, 2, 3, 1)
                found = torch.ops.aten.convolution_backward(
                    tdy, tx, tw, None, *pairs, False, [0, 0], options["groups"], mask
                )
                return found[0].permute(0, 2, 3, 1) if direction == "data" else found[1]

        return call

    return build


# name, n, channels in, size, channels out, kernel, stride, padding, dilation
CONVS_1D_3D = [
    ("1-d 3 64→128@256", 32, 64, (256,), 128, 3, 1, 1, 1), ("1-d 5 64→128@256", 32, 64, (256,), 128, 5, 1, 2, 1),
    ("1-d 9 64→128@256", 32, 64, (256,), 128, 9, 1, 4, 1), ("1-d 3 s2 64→128@256", 32, 64, (256,), 128, 3, 2, 1, 1),
    ("1-d 3 dilated 64→128@256", 32, 64, (256,), 128, 3, 1, 4, 4), ("1-d 9 1→64@1024", 32, 1, (1024,), 64, 9, 1, 4, 1),
    ("3-d 3 32→64@16³", 4, 32, (16, 16, 16), 64, 3, 1, 1, 1),
    ("3-d 3 s2 32→64@16³", 4, 32, (16, 16, 16), 64, 3, 2, 1, 1),
    ("3-d 3 128→128@4³", 8, 128, (4, 4, 4), 128, 3, 1, 1, 1), ("3-d 3 1→32@16³", 4, 1, (16, 16, 16), 32, 3, 1, 1, 1),
    ("3-d 1 64→64@8³", 8, 64, (8, 8, 8), 64, 1, 1, 0, 1),
]  # fmt: skip


def conv_1d_3d() -> Iterator[Case]:
    """A 1-d convolution is a 2-d one of height 1, as nn.functional.conv1d makes it."""
    for name, n, ci, size, co, k, stride, pad, dilation in CONVS_1D_3D:
        axes = len(size)
        out = tuple((s + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for s in size)
        x, w, dy = normal(n, *size, ci), normal(co, ci, *(k,) * axes), normal(n, *out, co)
        work = 2.0 * n * math.prod(out) * co * ci * k**axes
        low = (1,) * (axes == 1)  # the height of a signal
        attrs: dict[str, Any] = {
            "stride": [*low, *[stride] * axes], "padding": [0, 0] * len(low) + [pad] * (2 * axes),
            "dilation": [*low, *[dilation] * axes], "groups": 1, "layout": "nhwc" if axes == 1 else "ndhwc",
        }  # fmt: skip
        op = "conv2d" if axes == 1 else "conv3d"
        xs, ws, dys = (
            x.reshape(n, *low, *size, ci), w.reshape(co, ci, *low, *(k,) * axes), dy.reshape(n, *low, *out, co),
        )  # fmt: skip
        for direction, suffix, arrays, extra in (
            ("forward", "", [xs, ws], {}),
            ("data", "_backward_data", [dys, ws], {"input_size": [*low, *size]}),
            ("weight", "_backward_weight", [xs, dys], {"kernel": [*low, *(k,) * axes]}),
        ):
            options = {"stride": stride, "padding": pad, "dilation": dilation}
            peers = {
                p: torch_conv_nd(direction, x, w, dy, options, p)
                for p in ("torch nchw", "torch nhwc")[: 1 if axes == 1 else 2]
            }  # fmt: skip
            if direction == "forward":
                peers["onnxruntime"] = onnx_conv(x, w, stride, pad, dilation, 1)
            more: dict[str, Any] = {**attrs, **extra}
            yield Case("conv", f"{name} {direction}, direct", op + suffix, arrays, more, flops=work, peers=peers)
            if (k, stride) in WINOGRAD and stride == 1 and ci >= 16:
                more = more | {"algorithm": WINOGRAD[k, stride]}
                yield Case("conv", f"{name} {direction}, winograd", op + suffix, arrays, more, flops=work, peers=peers)


def torch_conv_nd(direction: str, x: Array, w: Array, dy: Array, options: dict[str, int], layout: str) -> Any:
    def build() -> Callable[[], Any]:
        import torch

        axes = x.ndim - 2
        last = axes == 3 and layout.endswith("nhwc")
        form = torch.channels_last_3d if last else torch.contiguous_format
        tx, tw, tdy = (torch.tensor(a) for a in (np.moveaxis(x, -1, 1), w, np.moveaxis(dy, -1, 1)))
        tx, tw, tdy = (t.contiguous(memory_format=form) for t in (tx, tw, tdy))
        mask = [direction == "data", direction == "weight", False]
        lists = [[options[k]] * axes for k in ("stride", "padding", "dilation")]

        def call() -> Any:
            with torch.no_grad():
                if direction == "forward":
                    return torch.ops.aten.convolution(tx, tw, None, *lists, False, [0] * axes, 1).movedim(1, -1)
                found = torch.ops.aten.convolution_backward(tdy, tx, tw, None, *lists, False, [0] * axes, 1, mask)
                return found[0].movedim(1, -1) if direction == "data" else found[1]

        return call

    return build


class Attention(Case):
    """Forward, and with a fourth array backward from it."""

    def emit(self, graph: _core.Graph, inputs: list[int], attrs: dict[str, Any]) -> list[int]:
        out, lse = graph.emit("attention", inputs[:3], attrs)
        if len(inputs) == 3:
            return [out, lse]
        q, k, v, dout = inputs
        return [out, *graph.emit("attention_backward", [dout, q, k, v, out, lse], attrs)]


def attention() -> Iterator[Case]:
    shapes = [(12, 4, 64, 32), *((4, 4, t, 64) for t in (64, 256, 1024)), (1, 4, 2048, 64), (4, 4, 256, 16)]
    for n, heads, t, d in [*shapes, (4, 4, 256, 128)]:
        for causal in (0, 1):
            q, k, v, dout = (normal(n, heads, t, d) for _ in range(4))

            def forward(q: Any, k: Any, v: Any, causal: int = causal) -> Any:
                import torch

                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=bool(causal))

            work = 4.0 * n * heads * t * t * d / (2 if causal else 1)
            attrs = {"scale": 1 / math.sqrt(d), "causal": causal}
            name = f"{n}x{heads}x{t}x{d}{' causal' if causal else ''}"
            peers = {"torch": torch_call(forward, q, k, v)}
            yield Attention("attention", f"{name} forward", "attention", [q, k, v], attrs, work, peers=peers)
            both = {"torch": torch_gradients(forward, [q, k, v], dout)}
            arrays = [q, k, v, dout]
            yield Attention("attention", f"{name} and backward", "attention", arrays, attrs, 3.5 * work, peers=both)


def torch_gradients(body: Callable[..., Any], arrays: list[Array], seed: Array) -> Callable[[], Callable[[], Any]]:
    """The value of body and its gradients by all arrays of floats."""

    def build() -> Callable[[], Any]:
        import torch

        tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        wanted = [t for t in tensors if t.requires_grad]
        dy = torch.tensor(seed)

        def call() -> Any:
            y = body(*tensors)
            torch.autograd.grad(y, wanted, dy)
            return y.detach()

        return call

    return build


class Recurrent(Case):
    """A layer over a sequence and its gradients: x, dy, and PyTorch's four parameters."""

    def ours(self) -> Callable[[], list[_core.Tensor]]:
        return self.program(self.arrays, self.attrs)  # with the passes: products, bias and layer are several ops

    def emit(self, graph: _core.Graph, inputs: list[int], attrs: dict[str, Any]) -> list[int]:
        def op(name: str, *inputs: int, **attrs: Any) -> int:
            return graph.emit(name, list(inputs), attrs)[0]

        x, dy, w_ih, w_hh, b_ih, b_hh = inputs
        hidden, batch, dtype = graph.shape(w_hh)[1], graph.shape(x)[1], graph.dtype(x)
        h0 = op("full", value=0.0, shape=[batch, hidden], dtype=dtype)
        bias, more = b_hh, []
        if self.op == "gru":
            gates = op("slice", b_hh, start=[0], stop=[2 * hidden], step=[1])
            bias = op("pad", gates, low=[0], high=[hidden], interior=[0], value=0.0)
            more = [op("slice", b_hh, start=[2 * hidden], stop=[3 * hidden], step=[1])]
        gates_x = op("add", op("matmul", x, w_ih, transpose_a=0, transpose_b=1), op("add", b_ih, bias))
        states = [h0, h0] if self.op == "lstm" else [h0]
        y = op(self.op, gates_x, *states, w_hh, *more, **attrs)
        return [y, *graph.grad(y, [x, w_ih, w_hh, b_ih, b_hh], dy)]


def rnn() -> Iterator[Case]:
    for op, gates in (("lstm", 4), ("gru", 3), ("rnn", 1)):
        for steps, batch, width, hidden in [
            (50, 32, 32, 128), (200, 32, 32, 128), (50, 1, 32, 128), (200, 1, 32, 128), (50, 32, 256, 256),
        ]:  # fmt: skip
            x, dy = normal(steps, batch, width), normal(steps, batch, hidden)
            scale = np.float32(hidden**-0.5)
            rows = gates * hidden
            parameters = [normal(*s) * scale for s in ((rows, width), (rows, hidden), (rows,), (rows,))]

            def forward(x: Any, *parameters: Any, op: str = op) -> Any:
                import torch

                h0 = torch.zeros(1, x.shape[1], parameters[1].shape[1])
                run = {"lstm": torch.lstm, "gru": torch.gru, "rnn": torch.rnn_tanh}[op]
                state = (h0, h0) if op == "lstm" else h0
                return run(x, state, parameters, True, 1, 0.0, True, False, False)[0]

            attrs: dict[str, Any] = {"reverse": 0} | ({"nonlinearity": "tanh"} if op == "rnn" else {})
            peers = {"torch": torch_gradients(forward, [x, *parameters], dy)}
            work = 6.0 * steps * batch * rows * (width + hidden)
            name = f"{op} {width}->{hidden}, {steps} steps, batch {batch}"
            yield Recurrent("rnn", name, op, [x, dy, *parameters], attrs, work, peers=peers)


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "gemm": gemm, "bf16": bf16, "conv": conv, "attention": attention, "rnn": rnn,
}
