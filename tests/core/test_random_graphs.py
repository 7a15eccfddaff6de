"""Random graphs: optimised = unoptimised = float32 bits of the naive kernels; text and file round trips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlcore import _core

UNARY = ["neg", "abs", "relu", "tanh", "sigmoid", "exp", "gelu", "silu", "softplus", "erf", "sin", "copy"]
BINARY = ["add", "sub", "mul", "maximum", "minimum"]


class Builder:
    """Grows a graph from drawn choices: rank-4 images through convolutions and pools, matrices through products."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.g = _core.Graph()
        self.images: list[int] = []
        self.rows: list[int] = []
        self.inputs: list[tuple[int, ...]] = []
        self.states = 0

    def input(self, shape: tuple[int, ...]) -> int:
        self.inputs.append(shape)
        return self.g.input(f"x{len(self.inputs)}", "f32", shape)

    def param(self, shape: tuple[int, ...]) -> int:
        self.states += 1
        return self.g.param(f"p{self.states}", "f32", shape)

    def pick(self, values: list[int]) -> int:
        return self.draw(st.sampled_from(values))

    def emit(self, op: str, inputs: list[int], **attrs: object) -> int:
        return self.g.emit(op, inputs, attrs, self.draw(st.sampled_from(["", "block.1"])))[0]  # type: ignore[arg-type]

    def scalar(self) -> int:
        return self.emit("full", [], value=self.draw(st.sampled_from([0.0, 1.0, 0.5, -2.0])), shape=[], dtype="f32")

    def step(self) -> None:
        kind = self.draw(st.sampled_from(["unary", "binary", "image", "row", "shape", "scalar", "select"]))
        pool = self.images if self.images and self.draw(st.booleans()) else self.rows
        x = self.pick(pool)
        shape = self.g.shape(x)
        if kind == "unary":
            pool.append(self.emit(self.draw(st.sampled_from(UNARY)), [x]))
        elif kind == "scalar":
            pool.append(self.emit(self.draw(st.sampled_from(BINARY)), self.draw(st.permutations([x, self.scalar()]))))
        elif kind == "binary":
            same = [v for v in pool if self.g.shape(v) == shape]
            pool.append(self.emit(self.draw(st.sampled_from(BINARY)), [x, self.pick(same)]))
        elif kind == "select":
            same = [v for v in pool if self.g.shape(v) == shape]
            mask = self.emit("gt", [x, self.pick(same)])
            pool.append(self.emit("where", [mask, x, self.pick(same)]))
        elif kind == "image" and self.images:
            x = self.pick(self.images)
            n, c, h, w = self.g.shape(x)
            what = self.draw(st.sampled_from(["conv", "pool", "norm", "bias"]))
            if what == "conv":
                o, k = self.draw(st.sampled_from([1, 3, 8])), self.draw(st.sampled_from([1, 3]))
                weight = self.param((o, c, k, k))
                self.images.append(
                    self.emit(
                        "conv2d",
                        [x, weight],
                        stride=[1, 1],
                        padding=[k // 2] * 4,
                        dilation=[1, 1],
                        groups=1,
                        layout="nchw",
                    )
                )
            elif what == "pool" and min(h, w) >= 2:
                op = self.draw(st.sampled_from(["max_pool2d", "avg_pool2d"]))
                extra = {"dilation": [1, 1]} if op == "max_pool2d" else {"count_include_pad": 1}
                self.images.append(
                    self.emit(op, [x], kernel=[2, 2], stride=[2, 2], padding=[0] * 4, ceil=0, layout="nchw", **extra)
                )
            elif what == "norm" and n * h * w > 1:
                self.images.append(self.emit("batch_norm", [x, self.param((c,)), self.param((c,))], axis=1, eps=1e-5))
            elif what == "bias":
                self.images.append(self.emit("add", [x, self.param((1, c, 1, 1))]))
        elif kind == "row":
            x = self.pick(self.rows)
            d = self.g.shape(x)[1]
            what = self.draw(st.sampled_from(["matmul", "softmax", "norm", "rms", "bias", "sum"]))
            if what == "matmul":
                e = self.draw(st.sampled_from([1, 4, 17]))
                self.rows.append(self.emit("matmul", [x, self.param((e, d))], transpose_a=0, transpose_b=1))
            elif what == "softmax":
                self.rows.append(self.emit("softmax", [x]))
            elif what == "norm":
                self.rows.append(self.emit("layer_norm", [x, self.param((d,)), self.param((d,))], dims=1, eps=1e-5))
            elif what == "rms":
                self.rows.append(self.emit("rms_norm", [x, self.param((d,))], dims=1, eps=1e-5))
            elif what == "bias":
                self.rows.append(self.emit("add", [x, self.param((d,))]))
            else:
                self.rows.append(self.emit("sum", [x], axes=[self.draw(st.sampled_from([0, 1]))], keepdims=1))
        elif kind == "shape":
            if self.images and self.draw(st.booleans()):
                x = self.pick(self.images)
                n, c, h, w = self.g.shape(x)
                self.rows.append(self.emit("reshape", [x], shape=[n, c * h * w]))
            else:
                x = self.pick(self.rows)
                self.rows.append(self.emit("transpose", [x], perm=[1, 0]))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[_core.Graph, list[tuple[int, ...]]]:
    b = Builder(draw)
    b.rows.append(b.input((draw(st.sampled_from([1, 5, 16])), draw(st.sampled_from([1, 6, 33])))))
    if draw(st.booleans()):
        b.images.append(
            b.input((draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 3, 8])), 6, draw(st.sampled_from([5, 8]))))
        )
    for _ in range(draw(st.integers(1, 14))):
        b.step()
    out = b.pick(b.images + b.rows)
    g = b.g
    (total,) = g.emit("sum", [out], {"axes": list(range(len(g.shape(out)))), "keepdims": 0})
    g.output("y", out)
    g.output("total", total)
    params = [v for role, _, v in g.leaves() if role == "param"]
    if params and draw(st.booleans()):
        (lr,) = g.emit("full", [], {"value": 0.01, "shape": [], "dtype": "f32"})
        for p, d in zip(params, g.grad(total, params), strict=True):
            g.update(p, g.emit("sgd_plain_update", [p, d, lr], {"weight_decay": 0.0})[0])
    g.verify()
    return g, b.inputs


def run(g: _core.Graph, shapes: list[tuple[int, ...]], steps: int = 2, **options: object) -> list[bytes]:
    rng = np.random.default_rng(0)
    inputs = [_core.Tensor.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in shapes]
    p = _core.Program(g, **options)  # type: ignore[arg-type]
    states = []
    for name, _, shape in p.states():
        t = _core.Tensor.from_numpy((0.3 * rng.standard_normal(shape)).astype(np.float32), copy=True)
        p.bind(name, t)
        states.append(t)
    out: list[bytes] = []
    for _ in range(steps):
        # -0 and NaN's payload are not part of the contract between passes.
        out += [np.nan_to_num(t.numpy() + 0.0, nan=1.5).tobytes() for t in p.run(inputs)]
    return out + [np.nan_to_num(t.numpy() + 0.0, nan=1.5).tobytes() for t in states]


common = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(
    "passes",
    [["simplify"], ["fold"], ["layout"], ["pairs"], ["fuse"], ["recompute"], ["fuse", "recompute"], ["epilogue"], None],
    ids=lambda p: "+".join(p) if p else "all",
)
@common
@given(graphs())
def test_optimised_is_unoptimised(passes: list[str] | None, drawn: tuple[_core.Graph, list[tuple[int, ...]]]) -> None:
    g, shapes = drawn
    want = run(g, shapes, passes=[], backend="ref")
    optimised = g.optimize(passes)
    optimised.verify()
    assert run(optimised, shapes, passes=[]) == want


@common
@given(graphs())
def test_text_round_trip(drawn: tuple[_core.Graph, list[tuple[int, ...]]]) -> None:
    g, shapes = drawn
    for graph in (g, g.optimize()):
        text = graph.text()
        consts = {name: graph.const_data(name) for role, name, _ in graph.leaves() if role == "const"}
        again = _core.Graph.parse(text, consts)
        assert again.text() == text
        assert run(again, shapes) == run(graph, shapes)
