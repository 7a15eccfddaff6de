"""The pass that computes cheap values again rather than store them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcore import _core


def emit(g: _core.Graph, op: str, *inputs: int, **attrs: Any) -> int:
    return g.emit(op, list(inputs), attrs)[0]


def run(g: _core.Graph, shapes: list[tuple[int, ...]]) -> list[bytes]:
    rng = np.random.default_rng(0)
    data = [_core.Tensor.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in shapes]
    return [t.numpy().tobytes() for t in _core.Program(g, passes=[]).run(data)]


def codes(g: _core.Graph) -> list[str]:
    return [node[3]["code"] for node in g.nodes() if node[0] == "fused"]


def centred(g: _core.Graph, cheap: str = "mul") -> list[tuple[int, ...]]:
    """A user's own normalisation, x - m and its product with r, kept for what comes after a product."""
    shapes = [(40, 30), (40, 1), (40, 1), (30, 30)]
    x, m, r, w = (g.input(f"i{i}", "f32", list(s)) for i, s in enumerate(shapes))
    d = emit(g, "sub", x, m)
    h = emit(g, cheap, d, r)
    y = emit(g, "matmul", h, w, transpose_a=0, transpose_b=0)
    left = emit(g, cheap, emit(g, "mul", emit(g, cheap, y, r), d), h)
    g.output("a", emit(g, "sub", left, emit(g, "mul", emit(g, "mul", y, x), m)))
    return shapes


def test_what_takes_nothing_new_is_computed_again() -> None:
    g = _core.Graph()
    shapes = centred(g)
    fused = g.optimize(["fuse", "simplify"])
    again = fused.optimize(["recompute"])
    assert [c.rpartition("out ")[2].count(",") for c in codes(fused)] == [1, 0], "the forward pass keeps x - m"
    first, last = codes(again)
    assert first == "t0=sub(x0,x1);t1=mul(t0,x2);out t1"
    assert last.count("sub(x") == 1
    assert [len(node[1]) for node in again.nodes() if node[0] == "fused"] == [3, 4]  # x, m, r and y: neither d nor h
    assert run(again, shapes) == run(fused, shapes) == run(g, shapes)


def test_costly_instructions_are_stored() -> None:
    g = _core.Graph()
    shapes = centred(g, "div")
    fused = g.optimize(["fuse", "simplify"])
    again = fused.optimize(["recompute"])
    first, last = codes(again)
    assert first.endswith("out t1")
    assert "sub(x" in last
    assert last.count("div") == 2
    assert run(again, shapes) == run(fused, shapes)


def test_values_of_other_operands_are_stored() -> None:
    g = _core.Graph()
    shapes = [(40, 30), (40, 30), (30, 30)]
    x, b, w = (g.input(f"i{i}", "f32", list(s)) for i, s in enumerate(shapes))
    d = emit(g, "relu", emit(g, "sub", x, b))
    y = emit(g, "matmul", d, w, transpose_a=0, transpose_b=0)
    g.output("a", emit(g, "mul", emit(g, "add", y, d), x))  # b would be one operand more
    fused = g.optimize(["fuse", "simplify"])
    assert codes(fused.optimize(["recompute"])) == codes(fused)
    assert run(fused.optimize(), shapes) == run(g, shapes)


def test_gated_layers_need_less_memory() -> None:
    """Forward and backward of layers max(p, p²)·(q + p) of two products p and q: the gradients need the parts."""
    g = _core.Graph()
    h, size, shapes, weights = g.input("x", "f32", [128, 64]), 64, [(128, 64)], []
    for i in range(3):
        shapes += [(size, 64)] * 2
        weights += [g.input(f"{name}{i}", "f32", [size, 64]) for name in "ab"]
        p, q = (emit(g, "matmul", h, w, transpose_a=0, transpose_b=0) for w in weights[-2:])
        h = emit(g, "mul", emit(g, "maximum", p, emit(g, "mul", p, p)), emit(g, "add", q, p))
    g.output("loss", emit(g, "sum", emit(g, "mul", h, h), axes=[0, 1], keepdims=0))
    for i, d in enumerate(g.grad(g.outputs()[0][1], weights)):
        g.output(f"d{i}", d)
    without = g.optimize(["simplify", "fuse", "simplify"])
    again = without.optimize(["recompute"])
    assert run(again, shapes) == run(without, shapes) == run(g, shapes)
    arenas = [_core.Program(program, passes=[]).arena_bytes for program in (again, without)]
    assert arenas[0] < 0.9 * arenas[1], arenas
