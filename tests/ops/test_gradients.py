"""Every derivative, and the derivative of every derivative, against central differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

from dlcore import _core
from tests.ops.cases import CASES, Array, Case

STEP = 1e-6
DIRECTIONS = 3
CORE = {"float64": "f64", "int64": "i64", "bool": "bool"}


class Scalar:
    """sum(seed * op(inputs)) over the differentiable outputs as a graph, with its derivatives up to the second."""

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        g = _core.Graph()
        arrays = case.arrays()
        self.arrays: list[Array] = []
        ids = []
        for i, (arg, a) in enumerate(zip(case.inputs, arrays, strict=True)):
            dtype = (
                "f64" if arg.dtype == "f" and a.dtype != bool else CORE[str(a.dtype)] if arg.dtype == "f" else arg.dtype
            )
            a = a.astype({"f64": np.float64, "i64": np.int64, "i32": np.int32, "u8": np.uint8, "bool": bool}[dtype])
            self.arrays.append(a)
            ids.append(g.input(f"x{i}", dtype, a.shape))
        outs = [v for v in g.emit(case.op, ids, case.attrs)[: case.outputs] if g.dtype(v) == "f64"]
        total = self._weighted(g, outs, rng, "seed")
        self.wrt = case.grad
        first = g.grad(total, [ids[i] for i in case.grad])
        self.first = self._program(g, [total, *first])
        self.second = None
        if case.second:
            inner = self._weighted(g, first, rng, "again")
            self.second = self._program(g, [inner, *g.grad(inner, [ids[i] for i in case.grad])])

    def _weighted(self, g: _core.Graph, values: list[int], rng: np.random.Generator, name: str) -> int:
        parts = []
        for i, v in enumerate(values):
            w = g.const(f"{name}{i}", _core.Tensor.from_numpy(rng.standard_normal(g.shape(v)), copy=True))
            (m,) = g.emit("mul", [v, w])
            parts += g.emit("sum", [m], {"axes": list(range(len(g.shape(v)))), "keepdims": 0})
        total = parts[0]
        for p in parts[1:]:
            (total,) = g.emit("add", [total, p])
        return total

    @staticmethod
    def _program(g: _core.Graph, outputs: list[int]) -> _core.Program:
        g = g.copy()
        for i, v in enumerate(outputs):
            g.output(f"o{i}", v)
        g.verify()
        return _core.Program(g, passes=[], backend="ref")

    def run(self, program: _core.Program, arrays: list[Array]) -> list[Array]:
        return [t.numpy() for t in program.run([_core.Tensor.from_numpy(a, copy=True) for a in arrays])]

    def check(self, program: _core.Program, rng: np.random.Generator, tolerance: float) -> None:
        _, *grads = self.run(program, self.arrays)
        for i, grad in zip(self.wrt, grads, strict=True):
            for _ in range(DIRECTIONS):
                direction = rng.standard_normal(self.arrays[i].shape)
                values = []
                for sign in (1, -1):
                    moved = list(self.arrays)
                    moved[i] = np.asarray(moved[i] + sign * STEP * direction)
                    values.append(float(self.run(program, moved)[0]))
                numeric = (values[0] - values[1]) / (2 * STEP)
                analytic = float((grad * direction).sum())
                scale = max(1.0, abs(numeric), abs(values[0]) * 1e-3)
                assert abs(numeric - analytic) <= tolerance * scale, (
                    f"input {i}: {analytic} by rule, {numeric} by difference"
                )


@pytest.mark.parametrize("case", [c for c in CASES if c.grad], ids=lambda c: c.name)
def test_gradient(case: Case) -> None:
    rng = np.random.default_rng([1, *case.name.encode()])
    scalar = Scalar(case, rng)
    scalar.check(scalar.first, rng, 1e-6)
    if scalar.second is not None:
        scalar.check(scalar.second, rng, 1e-5)
