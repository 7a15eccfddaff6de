"""Batch statistics put together from blocks of 512: exact where the mean is far from 0, never negative."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dlcore import _core
from tests.conftest import ISAS


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    isa = _core.isa()
    yield
    _core.set_isa(isa)


def batch_norm(x: np.ndarray) -> list[np.ndarray]:
    channels = x.shape[-1]
    inputs = [x, np.ones(channels, np.float32), np.zeros(channels, np.float32)]
    outputs = _core.run_op("batch_norm", [_core.Tensor.from_numpy(a) for a in inputs], {"axis": -1, "eps": 1e-5})
    return [t.numpy() for t in outputs]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
def test_far_from_zero(isa: str, offset: float) -> None:
    _core.set_isa(isa)
    x = (offset + np.random.default_rng(0).standard_normal((8192, 20))).astype(np.float32)
    exact = x.astype(np.float64).var(0)
    assert np.abs(batch_norm(x)[2] / exact - 1).max() < max(1e-6, 1e-9 * offset)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [0.1, 3.3e7, 1.23456e8, 1.1e9, -7.7e9, 3e12])
@pytest.mark.parametrize("rows", [5, 700, 5000])
def test_constant(isa: str, value: float, rows: int) -> None:
    _core.set_isa(isa)
    y, _, var = batch_norm(np.full((rows, 20), value, np.float32))
    assert (var >= 0).all()
    assert np.isfinite(y).all()
