"""Products in float64: the vectorised kernel has the bits of the naive one, on each instruction set and any threads."""

from __future__ import annotations

import numpy as np
import pytest

from dlcore import _core

SHAPES = [
    (1, 1, 1), (3, 5, 0), (1, 130, 70), (130, 1, 70), (14, 33, 300), (15, 16, 17), (64, 10, 128), (70, 600, 40),
    (200, 90, 310),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
def test_matmul(shape: tuple[int, int, int], ta: int, tb: int) -> None:
    m, n, k = shape
    rng = np.random.default_rng(m + n + k)
    a, b = rng.standard_normal((k, m) if ta else (m, k)), rng.standard_normal((n, k) if tb else (k, n))
    tensors = [_core.Tensor.from_numpy(t) for t in (a, b)]
    attrs = {"transpose_a": ta, "transpose_b": tb}
    want = _core.run_op("matmul", tensors, attrs, backend="ref")[0].numpy()
    np.testing.assert_allclose(want, (a.T if ta else a) @ (b.T if tb else b), rtol=1e-12, atol=1e-12 * (k or 1))
    isa, threads = _core.isa(), _core.num_threads()
    try:
        for name in ("avx2", "avx512"):
            if (name == "avx512" and _core.detected_isa() != "avx512") or _core.detected_isa() == "ref":
                continue
            _core.set_isa(name)
            for count in (1, 2):
                _core.set_num_threads(count)
                np.testing.assert_array_equal(_core.run_op("matmul", tensors, attrs)[0].numpy(), want)
    finally:
        _core.set_isa(isa)
        _core.set_num_threads(threads)


def test_batches() -> None:
    rng = np.random.default_rng(0)
    tensors = [_core.Tensor.from_numpy(rng.standard_normal(s)) for s in [(3, 1, 20, 30), (2, 30, 40)]]
    attrs = {"transpose_a": 0, "transpose_b": 0}
    want, got = (_core.run_op("matmul", tensors, attrs, backend=b)[0].numpy() for b in ("ref", ""))
    np.testing.assert_array_equal(got, want)
