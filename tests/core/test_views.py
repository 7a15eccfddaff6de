"""The pass "views": attention reads heads where they lie and writes its results where they go, with the same bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dlcore import _core
from tests.conftest import ISAS

B, T, H, D = 2, 20, 3, 8
E = H * D


def emit(g: _core.Graph, op: str, *inputs: int, **attrs: Any) -> int:
    return g.emit(op, list(inputs), attrs, "")[0]


def slices(g: _core.Graph, x: int, axis: int) -> list[int]:
    """Three equal parts along an axis."""
    shape = g.shape(x)
    parts = []
    for i in range(3):
        start, stop = [0] * len(shape), list(shape)
        start[axis], stop[axis] = i * shape[axis] // 3, (i + 1) * shape[axis] // 3
        parts.append(emit(g, "slice", x, start=start, stop=stop, step=[1] * len(shape)))
    return parts


def heads_first(g: _core.Graph, x: int) -> list[int]:
    """As in many a GPT: (B, T, 3, H, D) turned, then cut."""
    x = emit(g, "transpose", emit(g, "reshape", x, shape=[B, T, 3, H, D]), perm=[2, 0, 3, 1, 4])
    return [emit(g, "reshape", part, shape=[B, H, T, D]) for part in slices(g, x, 0)]


def cut_first(g: _core.Graph, x: int) -> list[int]:
    """As in MultiheadAttention(batch_first=True)."""
    parts = [emit(g, "reshape", part, shape=[B, T, H, D]) for part in slices(g, x, 2)]
    return [emit(g, "transpose", part, perm=[0, 2, 1, 3]) for part in parts]


def tokens_first(g: _core.Graph, x: int) -> list[int]:
    """As in MultiheadAttention: (T, N, E)."""
    x = emit(g, "transpose", x, perm=[1, 0, 2])
    parts = [emit(g, "reshape", part, shape=[T, B, H, D]) for part in slices(g, x, 2)]
    return [emit(g, "transpose", part, perm=[1, 2, 0, 3]) for part in parts]


def apart(g: _core.Graph, x: int) -> list[int]:
    """Three products, as with queries from elsewhere."""
    found = []
    for _ in range(3):
        w = g.input(f"w{len(g.leaves())}", "f32", [3 * E, E])
        y = emit(g, "reshape", emit(g, "matmul", x, w, transpose_a=0, transpose_b=0), shape=[B, T, H, D])
        found.append(emit(g, "transpose", y, perm=[0, 2, 1, 3]))
    return found


def training(split: Any, causal: int, mask: bool, back: list[int]) -> _core.Graph:
    g = _core.Graph()
    x = g.input("x", "f32", [B, T, 3 * E])
    q, k, v = split(g, x)
    inputs = [q, k, v] + ([g.input("mask", "f32", [1, 1, T, T])] if mask else [])
    out = g.emit("attention", inputs, {"scale": 1 / math.sqrt(D), "causal": causal}, "")[0]
    y = emit(g, "reshape", emit(g, "transpose", out, perm=back), shape=[B * T, E])
    g.output("y", y)
    loss = emit(g, "sum", emit(g, "mul", y, emit(g, "tanh", y)), axes=[0, 1], keepdims=0)
    wrt = [value for _, name, value in g.leaves() if name != "mask"]
    for i, d in enumerate(g.grad(loss, wrt)):
        g.output(f"d{i}", d)
    return g


def run(g: _core.Graph, **more: Any) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    data = [rng.standard_normal(g.shape(value)).astype(np.float32) for _, _, value in g.leaves()]
    return [t.numpy() for t in _core.Program(g, **more).run([_core.Tensor.from_numpy(d) for d in data])]


@pytest.mark.parametrize(
    ("split", "back"),
    [
        (heads_first, [0, 2, 1, 3]),
        (cut_first, [0, 2, 1, 3]),
        (tokens_first, [2, 0, 1, 3]),
        (apart, [0, 2, 1, 3]),
    ],
)
@pytest.mark.parametrize(("causal", "mask"), [(1, False), (0, True)])
def test_heads_are_not_moved(split: Any, back: list[int], causal: int, mask: bool) -> None:
    g = training(split, causal, mask, back)
    viewed = g.optimize(["simplify", "fold", "views", "simplify"])
    viewed.verify()
    ops = [node[0] for node in viewed.nodes()]
    assert ops.count("attention_strided") == ops.count("attention_strided_backward") == 1, ops
    assert sum(ops.count(op) for op in ("transpose", "slice", "concat", "pad")) == 0, viewed.text()
    want = run(g, passes=[])
    for isa in ISAS:
        _core.set_isa(isa)
        for found, expected in zip(run(viewed, passes=[]), want, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_values_that_others_need_stay() -> None:
    """The heads, and attention's result as it comes, are outputs as well."""
    g = _core.Graph()
    x = g.input("x", "f32", [B, T, 3 * E])
    q, k, v = heads_first(g, x)
    out = g.emit("attention", [q, k, v], {"scale": 0.3, "causal": 1}, "")[0]
    g.output("q", q)
    g.output("out", out)
    g.output("y", emit(g, "transpose", out, perm=[0, 2, 1, 3]))
    viewed = g.optimize(["simplify", "views"])
    assert [node[0] for node in viewed.nodes()].count("transpose") == 2
    for found, want in zip(run(viewed, passes=[]), run(g, passes=[]), strict=True):
        np.testing.assert_array_equal(found, want)


def test_shared_heads_are_read_by_all() -> None:
    """Keys and values of one head for many queries (Shazeer, "Fast Transformer Decoding", 2019): a stride of 0."""
    g = _core.Graph()
    q, k = g.input("q", "f32", [B, H, T, D]), g.input("k", "f32", [B, 1, T, D])
    shared = emit(g, "broadcast_to", k, shape=[B, H, T, D])
    g.output("y", g.emit("attention", [q, shared, shared], {"scale": 0.3, "causal": 0}, "")[0])
    viewed = g.optimize(["views"])
    assert [node[0] for node in viewed.nodes()] == ["attention_strided"]
    np.testing.assert_array_equal(run(viewed, passes=[])[0], run(g, passes=[])[0])


GOOD = {
    "scale": 0.5, "causal": 0, "sizes": [1, 2, 4, 4, 3], "q": [0, 72, 3, 18], "k": [6, 72, 3, 18],
    "v": [12, 72, 3, 18], "out": [0, 24, 3, 6], "shape0": [1, 4, 6],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": [13, 72, 3, 18]}, "v reaches beyond"),
        ({"q": [0, 72, 3, 1 << 62]}, "q reaches beyond"),
        ({"k": [-1, 72, 3, 18]}, "no value below 0"),
        ({"sizes": [1, 2, 4, 1 << 61, 3]}, "large|elements|overflow"),
        ({"sizes": [1, 0, 4, 4, 3]}, "no value below 1"),
        ({"out": [0, 24, 3, 5]}, "do not fill"),
        ({"out": [1, 24, 3, 6]}, "do not fill"),
        ({"shape0": [1, 4, 7]}, "do not fill"),
        ({"causal": 1, "sizes": [1, 2, 4, 3, 3]}, "as many keys"),
        ({"more": 1}, "unknown attribute"),
    ],
)
def test_a_view_beyond_its_tensor_is_refused(change: dict[str, Any], message: str) -> None:
    g = _core.Graph()
    x = g.input("x", "f32", [1, 4, 18])
    g.emit("attention_strided", [x, x, x], GOOD, "")
    with pytest.raises(ValueError, match=message):
        g.emit("attention_strided", [x, x, x], {**GOOD, **change}, "")
