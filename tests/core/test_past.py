"""Results written past the caches have the same bits as others, in whole lines and where rows or ends are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dlcore import _core, optim
from tests.conftest import ISAS
from tests.test_determinism import train
from tests.zoo import ZOO, Entry

WIDTHS = (512, 16, 77, 1000)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    isa, threads, cache = _core.isa(), _core.num_threads(), _core.set_last_cache(0)
    yield
    _core.set_isa(isa)
    _core.set_num_threads(threads)
    _core.set_last_cache(cache)


def tensors(rows: int, width: int) -> dict[str, _core.Tensor]:
    rng = np.random.default_rng(rows + width)
    arrays: dict[str, Any] = {name: rng.standard_normal((rows, width)) for name in ("x", "y")}
    arrays |= {name: rng.standard_normal(width) for name in ("gamma", "beta")}
    arrays |= {"mean": rng.standard_normal(rows), "rstd": rng.random(rows) + 0.5}
    return {name: _core.Tensor.from_numpy(a.astype(np.float32)) for name, a in arrays.items()} | {
        "mask": _core.Tensor.from_numpy(rng.random((rows, width)) < 0.5)
    }


CASES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("exp", ["x"], {}), ("tanh", ["x"], {}), ("add", ["x", "y"], {}), ("add", ["x", "gamma"], {}),
    ("pow", ["x", "y"], {}), ("where", ["mask", "x", "y"], {}), ("lt", ["x", "y"], {}), ("gelu_with_slope", ["x"], {}),
    ("cast", ["x"], {"dtype": "i32"}),
    ("layer_norm", ["x", "gamma", "beta"], {"dims": 1, "eps": 1e-5}),
    ("layer_norm_backward", ["y", "x", "gamma", "mean", "rstd"], {"dims": 1}),
    ("rms_norm", ["x", "gamma"], {"dims": 1, "eps": 1e-5}),
    ("rms_norm_backward", ["y", "x", "gamma", "rstd"], {"dims": 1}),
    ("softmax", ["x"], {}), ("log_softmax", ["x"], {}),
    ("fused", ["x", "y"], {"code": "t0=mul(x0,x1);t1=tanh(t0);t2=add(t1,x0);out t2,t1"}),
]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_same_bits(case: tuple[str, list[str], dict[str, Any]], width: int) -> None:
    op, names, attrs = case
    values = tensors(131, width)
    results = []
    for isa in ISAS:
        _core.set_isa(isa)
        for cache in (0, 1):
            _core.set_last_cache(cache)
            for threads in (1, 2):
                _core.set_num_threads(threads)
                results.append([r.numpy().tobytes() for r in _core.run_op(op, [values[n] for n in names], attrs)])
    assert all(r == results[0] for r in results)


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_training(entry: Entry) -> None:
    """In whole programs results may take the place of operands."""
    results = []
    for cache in (0, 1):
        _core.set_last_cache(cache)
        results.append(train(entry, ISAS[-1], 2, lambda: optim.SGD(lr=0.05)))
    assert results[0] == results[1]
