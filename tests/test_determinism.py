"""The determinism contract (docs/decisions/0001-determinism.md): the same bits on any instruction set, any number
of threads, interrupted or not, alone or in a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core, optim
from tests.conftest import ISAS
from tests.zoo import ZOO, Entry


def train(entry: Entry, isa: str, threads: int, make: Callable[[], optim.Optimizer], steps: int = 4) -> list[bytes]:
    _core.set_isa(isa)
    _core.set_num_threads(threads)
    dl.seed(0)
    model, optimizer = entry.build(), make()

    @dl.train_step(model, optimizer)
    def step(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
        return entry.loss(model(x), y)

    rng = np.random.default_rng(0)
    out = [np.asarray(step(*entry.batch(24, rng))).tobytes() for _ in range(steps)]
    return out + [np.asarray(v).tobytes() for v in model.state_dict().values()]


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
@pytest.mark.parametrize(
    "make", [lambda: optim.AdamW(lr=1e-2), lambda: optim.SGD(lr=0.05, momentum=0.9)], ids=["adamw", "sgd"]
)
def test_training_gives_the_same_bits(entry: Entry, make: Callable[[], optim.Optimizer]) -> None:
    want = train(entry, ISAS[-1], 1, make)
    for isa in ISAS:
        for threads in (1, 2, 4) if isa != "ref" else (1,):
            assert train(entry, isa, threads, make) == want, f"{isa} with {threads} threads"


@pytest.mark.parametrize("optimize", ["latency", "throughput"])
@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_a_row_is_predicted_alone_as_in_a_batch(entry: Entry, optimize: str) -> None:
    dl.seed(0)
    model = entry.build()
    x, _ = entry.batch(67, np.random.default_rng(1))
    program = dl.freeze(model, example=x[:2], optimize=optimize)
    want = None
    for isa in ISAS:
        _core.set_isa(isa)
        for threads in (1, 2, 4) if isa != "ref" else (1,):
            _core.set_num_threads(threads)
            again = dl.freeze(model, example=x[:2], optimize=optimize)
            whole = np.asarray(again.run(x))
            want = whole if want is None else want
            assert whole.tobytes() == want.tobytes(), f"{isa} with {threads} threads"
    for i in (0, 1, 63, 64, 66):
        assert np.asarray(program.run(x[i : i + 1])).tobytes() == want[i : i + 1].tobytes(), f"row {i} alone"
    assert np.asarray(program.run(x[5:18])).tobytes() == want[5:18].tobytes()
    # The model called as it is gives what the program gives.
    np.testing.assert_allclose(np.asarray(model(dl.tensor(x))), want, rtol=1e-5, atol=1e-5)


def test_another_seed_is_another_model() -> None:
    dl.seed(0)
    a = ZOO[0].build().state_dict()
    dl.seed(0)
    b = ZOO[0].build().state_dict()
    dl.seed(1)
    c = ZOO[0].build().state_dict()
    assert all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in a)
    assert not any(np.array_equal(np.asarray(a[k]), np.asarray(c[k])) for k in a if "weight" in k)
