"""dl.set_precision: how 3×3 convolutions round, decided when a model is traced or frozen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn, optim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 32, 16, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    dl.set_precision("fast")


def error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def test_errors_of_both(tmp_path: Path) -> None:
    model = nn.Conv2d(32, 32, 3, padding=1)
    weight, bias = (np.asarray(v.numpy(), np.float64) for v in (model.weight, model.bias))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    want = np.einsum("nchwij,ocij->nohw", windows.astype(np.float64), weight) + bias[:, None, None]
    found = {}
    for name in ("fast", "precise"):
        dl.set_precision(name)
        assert dl.precision() == dl.info()["precision"] == name
        dl.freeze(model, example=X).save(tmp_path / name)
        found[name] = dl.load(tmp_path / name).run(X)
    assert error(found["precise"], want) < 1e-6
    assert error(found["precise"], want) < error(found["fast"], want) < 1e-5
    # A file keeps what it was frozen with, whatever holds where it is loaded.
    dl.set_precision("precise")
    assert np.array_equal(dl.load(tmp_path / "fast").run(X), found["fast"])


def test_a_step_is_traced_anew() -> None:
    def train(precision: str) -> tuple[list[float], np.ndarray]:
        dl.set_precision("fast")
        dl.seed(0)
        model = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 256, 3))
        step = dl.train_step(model, optim.SGD(lr=0.01))(lambda x, y: nn.functional.cross_entropy(model(x), y))
        y = np.array([0, 1, 2, 0])
        first = step(X, y).item()
        dl.set_precision(precision)
        losses = [first, *(step(X, y).item() for _ in range(3))]
        assert isinstance(model[0], nn.Conv2d)
        return losses, model[0].weight.numpy().copy()

    (fast, weights), (precise, other) = train("fast"), train("precise")
    assert fast[0] == precise[0]
    assert not np.array_equal(weights, other)
    np.testing.assert_allclose(fast, precise, rtol=1e-4)
    np.testing.assert_allclose(weights, other, atol=1e-5)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="'fast' or 'precise', got 'exact'"):
        dl.set_precision("exact")
