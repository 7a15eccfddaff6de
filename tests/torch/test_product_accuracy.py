"""Errors of matrix products against float64, beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("k", [64, 256, 257, 784, 1024, 4096, 16384])
def test_error_grows_no_faster_with_the_length_of_sums(k: int) -> None:
    rng = np.random.default_rng(k)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((64, k), (k, 96)))
    exact = a.astype(float) @ b.astype(float)

    def error(c: object) -> float:
        return float(np.sqrt(np.mean((np.asarray(c) - exact) ** 2)))

    assert error(dl.matmul(a, b)) <= 2 * error(torch.tensor(a) @ torch.tensor(b))
