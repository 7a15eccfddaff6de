"""Weights that never change are packed once, when a program is planned: the same bits, one copy for all its plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlcore import _core

RNG = np.random.default_rng(3)


def conv(groups: int = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    attrs = {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": groups, "layout": "nhwc"}
    return "conv2d", {**attrs, **more}


BIAS = "t0=add(x0,x1);t1=relu(t0);out t1"
CASES = {
    "direct": ((2, 9, 8, 20), (24, 20, 3, 3), conv()),
    "channels first": ((2, 20, 9, 8), (24, 20, 3, 3), conv(layout="nchw")),
    "few channels": ((2, 9, 8, 3), (24, 3, 3, 3), conv()),
    "groups": ((2, 9, 8, 32), (48, 8, 3, 3), conv(4)),
    "depthwise": ((2, 9, 8, 24), (24, 1, 3, 3), conv(24)),
    "winograd": ((2, 9, 8, 20), (24, 20, 3, 3), conv(algorithm="winograd4")),
    "winograd 2x2": ((2, 9, 8, 20), (24, 20, 3, 3), conv(algorithm="winograd2")),
    "winograd groups": ((2, 9, 8, 40), (48, 20, 3, 3), conv(2, algorithm="winograd4")),
    "winograd stride 2": ((2, 9, 8, 20), (24, 20, 3, 3), conv(algorithm="winograd4", stride=[2, 2])),
    "winograd 4x4 stride 2": ((2, 9, 8, 20), (24, 20, 4, 4), conv(algorithm="winograd4", stride=[2, 2])),
    "product": ((7, 40), (40, 33), ("matmul", {"transpose_a": 0, "transpose_b": 0})),
    "product, transposed": ((7, 40), (33, 40), ("matmul", {"transpose_a": 0, "transpose_b": 1})),
    "row": ((1, 400), (330, 400), ("matmul", {"transpose_a": 0, "transpose_b": 1})),
    "bias": ((20, 40), (33, 40), ("matmul_fused", {"transpose_a": 0, "transpose_b": 1, "code": BIAS})),
    "row and bias": ((1, 40), (33, 40), ("matmul_fused", {"transpose_a": 0, "transpose_b": 1, "code": BIAS})),
    "many rows": ((200, 400), (330, 400), ("matmul", {"transpose_a": 0, "transpose_b": 1})),
}


def program(x: Any, w: _core.Tensor, call: tuple[str, dict[str, Any]], constant: bool) -> _core.Program:
    graph = _core.Graph()
    a = graph.input("x", "f32", list(x.shape))
    b = graph.const("w", w) if constant else graph.input("w", "f32", list(w.shape))
    bias = [graph.const("b", _core.Tensor.from_numpy(np.linspace(-1, 1, 33, dtype=np.float32), copy=True))]
    graph.output("y", graph.emit(call[0], [a, b, *(bias if call[0].endswith("fused") else [])], call[1])[0])
    return _core.Program(graph, passes=[])


@pytest.mark.parametrize("case", CASES)
def test_constant_weights_give_the_same_bits(case: str) -> None:
    x_shape, w_shape, call = CASES[case]
    x = RNG.standard_normal(x_shape).astype(np.float32)
    w = _core.Tensor.from_numpy(RNG.standard_normal(w_shape).astype(np.float32), copy=True)
    tensor = _core.Tensor.from_numpy(x)
    fresh = program(x, w, call, False).run([tensor, w])[0].numpy()
    prepared = program(x, w, call, True)
    for _ in range(2):
        np.testing.assert_array_equal(prepared.run([tensor])[0].numpy().view(np.int32), fresh.view(np.int32))


def test_programs_over_one_constant_share_what_is_packed() -> None:
    w = _core.Tensor.from_numpy(RNG.standard_normal((64, 64, 3, 3)).astype(np.float32), copy=True)
    x = np.zeros((1, 8, 8, 64), np.float32)
    first = program(x, w, conv(), True)
    before = _core.allocated_bytes()
    others = [program(np.zeros((n, 8, 8, 64), np.float32), w, conv(), True) for n in range(2, 6)]
    assert _core.allocated_bytes() - before < w.nbytes
    del first, others
