"""Products in bfloat16: against float64 and the naive kernel on each instruction set, by tiles where the processor has
them and by dot products of pairs, the same bits for any threads."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core

SHAPES = [
    (1, 1, 1), (3, 5, 0), (1, 130, 70), (130, 1, 71), (14, 33, 300), (15, 16, 17), (64, 10, 128), (17, 900, 33),
    (70, 40, 1601), (96, 600, 128), (128, 40, 2080), (65, 290, 2100),
]  # fmt: skip


# Instruction sets of this machine with vectors, and whether tiles (AMX) are used.
_ISAS = ["ref", "avx2", "avx512"]
WAYS = [(isa, False) for isa in _ISAS[1 : _ISAS.index(_core.detected_isa()) + 1]]
if _core.has_amx_bf16():
    WAYS.append(("avx512", True))


def truncated(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float32 that bfloat16 holds exactly."""
    bits = rng.standard_normal(shape).astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def cast(a: np.ndarray) -> _core.Tensor:
    return _core.run_op("cast", [_core.Tensor.from_numpy(a)], {"dtype": "bf16"})[0]


def widened(t: _core.Tensor) -> np.ndarray:
    assert t.dtype == "bf16"
    return (t.numpy().astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
def test_matmul(shape: tuple[int, int, int], ta: int, tb: int) -> None:
    m, n, k = shape
    rng = np.random.default_rng(m + n + k)
    a, b = truncated(rng, *((k, m) if ta else (m, k))), truncated(rng, *((n, k) if tb else (k, n)))
    exact = (a.T if ta else a).astype(np.float64) @ (b.T if tb else b)
    tensors, attrs = [cast(a), cast(b)], {"transpose_a": ta, "transpose_b": tb}
    want = widened(_core.run_op("matmul", tensors, attrs, backend="ref")[0])
    np.testing.assert_allclose(want, exact, rtol=2**-8, atol=1e-4)
    isa, threads = _core.isa(), _core.num_threads()
    try:
        for name, tiles in WAYS:
            _core.set_isa(name)
            _core.allow_amx(tiles)
            found = []
            for count in (1, 2):
                _core.set_num_threads(count)
                found.append(widened(_core.run_op("matmul", tensors, attrs)[0]))
            np.testing.assert_array_equal(found[0], found[1])
            np.testing.assert_allclose(found[0], exact, rtol=2**-8, atol=1e-4)
            if name == "avx2":
                np.testing.assert_array_equal(found[0], want)
    finally:
        _core.set_isa(isa)
        _core.allow_amx(True)
        _core.set_num_threads(threads)


@pytest.mark.parametrize("way", [("ref", False), *WAYS], ids=str)
def test_ends_of_the_range(way: tuple[str, bool]) -> None:
    big = np.float32(2.0**127)
    a = np.array([[np.inf, 1, 0], [np.nan, 1, 0], [big, big, 0], [1, 2**-9, 0], [1, 2**-8, 2**-8]], np.float32)
    before = _core.isa()
    try:
        _core.set_isa(way[0])
        _core.allow_amx(way[1])
        got = widened(_core.run_op("matmul", [cast(a), cast(np.ones((3, 20), np.float32))], {})[0])
    finally:
        _core.set_isa(before)
        _core.allow_amx(True)
    want = np.array([np.inf, np.nan, np.inf, 1, 1 + 2**-7], np.float32)  # ties to even: 1 + 2**-9 is 1
    np.testing.assert_array_equal(got, np.repeat(want[:, None], 20, 1))


def test_batches() -> None:
    rng = np.random.default_rng(0)
    a, b = truncated(rng, 3, 1, 20, 30), truncated(rng, 2, 30, 40)
    got = widened(_core.run_op("matmul", [cast(a), cast(b)], {})[0])
    np.testing.assert_allclose(got, a.astype(np.float64) @ b, rtol=2**-8, atol=1e-4)


def test_gradient() -> None:
    """Through the casts: weights in float32, products in bfloat16; an input used twice, a matrix shared by a batch."""
    rng = np.random.default_rng(1)
    x, v, w = (dl.tensor(rng.standard_normal(s).astype(np.float32)) for s in [(2, 6, 8), (8, 5), (2, 8, 5)])

    def loss(x: dl.Tensor, v: dl.Tensor, w: dl.Tensor, half: bool) -> dl.Tensor:
        if half:
            x, v, w = (t.astype(dl.bfloat16) for t in (x, v, w))
        return (((x @ v).astype(dl.float32) * (x @ w).astype(dl.float32)) ** 2).mean()

    got = dl.grad(lambda *t: loss(*t, True), argnums=(0, 1, 2))(x, v, w)
    want = dl.grad(lambda *t: loss(*t, False), argnums=(0, 1, 2))(x, v, w)
    for g, e in zip(got, want, strict=True):
        assert g.dtype == dl.float32
        np.testing.assert_allclose(g.numpy(), e.numpy(), atol=0.03 * np.abs(e.numpy()).max())


def test_mixed_types_are_refused() -> None:
    x = dl.tensor(np.ones((2, 2), np.float32))
    with pytest.raises(TypeError, match="dtypes differ"):
        _core.run_op("matmul", [x.core, x.astype(dl.bfloat16).core], {})


def test_rows_do_not_depend_on_their_batch() -> None:
    """One row, a few and many go different ways, which add up alike."""
    rng = np.random.default_rng(3)
    a, b = truncated(rng, 200, 1100), truncated(rng, 1100, 70)
    for tb in (0, 1):
        right = cast(np.ascontiguousarray(b.T) if tb else b)
        whole = widened(_core.run_op("matmul", [cast(a), right], {"transpose_b": tb})[0])
        for rows in (1, 20, 64, 112):
            part = widened(_core.run_op("matmul", [cast(a[:rows].copy()), right], {"transpose_b": tb})[0])
            np.testing.assert_array_equal(part, whole[:rows])
