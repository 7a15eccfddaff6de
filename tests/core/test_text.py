"""The text form of a graph: what it looks like, that it parses back, and that no text can do harm."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dlcore import _core

GOLDEN = """dlcore 1
%0: f32[64,784] = input "x"
%1: i64[64] = input "labels"
%2: f32[10,784] = param "0.weight"
%3: f32[10] = const "bias"
%4: f32[64,10] = matmul(%0, %2) {transpose_a=0, transpose_b=1} @"0"
%5: f32[64,10] = add(%4, %3) @"0"
%6: f32[64], %7: f32[64] = cross_entropy(%5, %1) {ignore_index=-100, label_smoothing=0.5}
%8: f32[] = sum(%6) {axes=[0], keepdims=0}
%9: f32[] = full() {dtype="f32", shape=[], value=0.1}
%10: f32[10,784] = mul(%2, %9)
output "loss" %8
update %2 = %10
"""
BIAS = {"bias": _core.Tensor.from_numpy(np.arange(10, dtype=np.float32))}


def test_golden_text_parses_and_prints_back() -> None:
    assert _core.Graph.parse(GOLDEN, BIAS).text() == GOLDEN


def test_built_graph_prints_the_golden_text() -> None:
    g = _core.Graph()
    x, labels = g.input("x", "f32", [64, 784]), g.input("labels", "i64", [64])
    w, b = g.param("0.weight", "f32", [10, 784]), g.const("bias", BIAS["bias"])
    (h,) = g.emit("matmul", [x, w], {"transpose_a": 0, "transpose_b": True}, "0")
    (h,) = g.emit("add", [h, b], {}, "0")
    loss, _ = g.emit("cross_entropy", [h, labels], {"label_smoothing": 0.5, "ignore_index": -100})
    (total,) = g.emit("sum", [loss], {"axes": [0], "keepdims": False})
    (c,) = g.emit("full", [], {"value": 0.1, "shape": [], "dtype": "f32"})
    g.update(w, g.emit("mul", [w, c])[0])
    g.output("loss", total)
    assert g.text() == GOLDEN


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dlcore 1", "dlcore 9", "line 1"),
        ("matmul(%0, %2)", "matmul(%0, %77)", "line 6"),
        ("matmul(%0, %2)", "matmul(%0, %6)", "line 6"),
        ("matmul(", "no_such_op(", "no_such_op"),
        ("f32[64,10] = add", "f32[64,11] = add", "add"),
        ("f32[64,10] = add", "f99[64,10] = add", "f99"),
        ("f32[10,784] = param", "f32[10,-784] = param", "line 4"),
        ("f32[10,784] = param", "f32[99999999999,99999999999] = param", "line 4"),
        ("f32[10,784] = param", "f32[10,99999999999999999999999] = param", "line 4"),
        ('"bias"', '"elsewhere"', "elsewhere"),
        ("axes=[0]", "axes=[7]", "axis"),
        ("axes=[0]", "axes=[0", "line 9"),
        ("axes=[0]", "axes=[0,0]", "axes"),
        ("update %2 = %10", "update %0 = %10", "update"),
        ("update %2 = %10", "update %2 = %8", "0.weight"),
        ("update %2 = %10", "update %2 = %10\nupdate %2 = %10", "0.weight"),
        ('input "labels"', 'input "x"', "x"),
        ("%10: f32", "%9: f32", "%9"),
        ('output "loss" %8', 'output "loss" %800', "800"),
    ],
)
def test_wrong_text_is_refused_with_the_reason(old: str, new: str, message: str) -> None:
    assert old in GOLDEN
    with pytest.raises((ValueError, TypeError, KeyError)) as error:
        _core.Graph.parse(GOLDEN.replace(old, new, 1), BIAS)
    assert message in str(error.value)


def test_damaged_text_never_crashes() -> None:
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        text = list(GOLDEN)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            match rng.randrange(4):
                case 0:
                    text[at] = chr(rng.randrange(1, 127))
                case 1:
                    del text[at : at + rng.randint(1, 30)]
                case 2:
                    text.insert(at, rng.choice(["%", "[", "]", "9" * 20, '"', "{", "-1", "\n", "é", "=", "1e309"]))
                case 3:
                    other = rng.randrange(len(text))
                    text[at], text[other] = text[other], text[at]
        try:
            g = _core.Graph.parse("".join(text), BIAS)
            assert (
                _core.Graph.parse(g.text(), {n: g.const_data(n) for r, n, _ in g.leaves() if r == "const"}).text()
                == g.text()
            )
        except (ValueError, TypeError, KeyError):
            refused += 1
    assert refused > 1500


def test_batch_is_printed_as_n() -> None:
    prime = 1000003
    g = _core.Graph()
    g.batch = prime
    x = g.input("x", "f32", [prime, 4, 6])
    (y,) = g.emit("reshape", [x], {"shape": [prime * 4, 6]})
    g.output("y", y)
    text = g.text()
    assert "f32[N,4,6]" in text
    assert "shape=[4*N,6]" in text
    again = _core.Graph.parse(text)
    assert again.text() == text
    small = again.with_batch(3)
    assert small.shape(1) == (12, 6)
    out = _core.Program(small).run([_core.Tensor("f32", (3, 4, 6))])
    assert out[0].shape == (12, 6)
