"""Every op forward: float32 on each instruction set against float64 and NumPy, and bit for bit against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlcore import _core
from tests.conftest import ISAS
from tests.ops.cases import CASES, Array, Case

FLOATS = {"f32": np.float32, "f64": np.float64}
EXACT_DTYPES = {"i64": np.int64, "i32": np.int32, "u8": np.uint8, "f32": np.float32}


def tensors(case: Case, dtype: str, arrays: list[Array] | None = None) -> list[_core.Tensor]:
    out = []
    for arg, a in zip(case.inputs, arrays or case.arrays(), strict=True):
        if a.dtype != bool:
            a = a.astype(FLOATS[dtype] if arg.dtype == "f" else EXACT_DTYPES[arg.dtype])
        out.append(_core.Tensor.from_numpy(a, copy=True))
    return out


def run(case: Case, dtype: str, **options: Any) -> list[Array]:
    attrs = dict(case.attrs)
    if case.op == "full":
        attrs["dtype"] = dtype
    return [t.numpy() for t in _core.run_op(case.op, tensors(case, dtype), attrs, **options)]


def close(got: Array, want: Array, tolerance: float, what: str) -> None:
    assert got.shape == want.shape, what
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, what)
        return
    scale = max(1e-30, float(np.abs(np.where(np.isfinite(want), want, 0)).max(initial=0.0)))
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=0, atol=tolerance * scale, err_msg=what)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_forward(case: Case) -> None:
    only_f32 = case.op.endswith("fused") or case.op in ("random_uniform", "random_normal")
    want = run(case, "f32" if only_f32 else "f64", backend="ref")
    if case.expect is not None:
        # The float64 kernels are the oracle of all others, so they are held against NumPy.
        expected = case.expect(*case.arrays())
        for got, e in zip(want, expected if isinstance(expected, tuple) else (expected,), strict=True):
            close(got, np.asarray(e), 1e-6 if only_f32 else 1e-12, f"{case.name} against NumPy")
    reference = None
    for isa in ISAS:
        _core.set_isa(isa)
        for threads in (1, 2, 4):
            _core.set_num_threads(threads)
            got = run(case, "f32")
            for g, w in zip(got, want, strict=True):
                close(g, w, case.tolerance, f"{case.name} on {isa}, {threads} threads")
            if reference is None:
                reference = [g.tobytes() for g in got]
            assert [g.tobytes() for g in got] == reference, f"{case.name}: {isa} with {threads} threads has other bits"


def test_every_op_has_a_case() -> None:
    missing = set(_core.op_names()) - {c.op for c in CASES}
    assert not missing, f"ops without a case in tests/ops/cases.py: {sorted(missing)}"


def test_every_op_has_a_reference_and_a_vector_kernel() -> None:
    views = {"reshape"}
    without = {op for op in set(_core.op_names()) - views if "ref" not in _core.backends(op)}
    assert not without, f"no naive kernel for {sorted(without)}"
    # Outside of training, folded into a constant once, or rows in parallel whose steps are few states in turn.
    scalar = {"sort", "cumsum", "iota", "ctc", "ctc_backward"}
    without = {op for op in set(_core.op_names()) - views - scalar if "cpu" not in _core.backends(op)}
    assert not without, f"no vectorised kernel for {sorted(without)}"
