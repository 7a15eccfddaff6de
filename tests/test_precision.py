"""dl.set_precision: how convolutions round, decided when a model is traced or frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core, nn, optim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 32, 16, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    dl.set_precision("fast")


def error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize(
    ("layer", "fast", "precise"),
    [
        (lambda: nn.Conv2d(32, 32, 3, padding=1), "winograd4", "winograd2"),
        (lambda: nn.Conv2d(32, 32, 3, padding=2, dilation=2), "winograd4", "winograd2"),
        (lambda: nn.Conv2d(32, 32, 5, padding=2), "winograd2", "direct"),
        (lambda: nn.Conv2d(32, 32, 3, padding=1, groups=2), "winograd4", "direct"),
        (lambda: nn.Conv2d(32, 32, 3, stride=2, padding=1), "winograd4", "direct"),
        (lambda: nn.Conv2d(32, 32, 4, stride=2, padding=1), "winograd4", "direct"),
        (lambda: nn.Conv1d(32, 32, 3, padding=1), "winograd4", "direct"),
        (lambda: nn.Conv1d(32, 32, 5, padding=4, dilation=2), "winograd2", "direct"),
        (lambda: nn.Conv3d(32, 32, 3, padding=1), "winograd4", "winograd2"),
    ],
    ids=["3x3", "3x3 dilated", "5x5", "3x3 groups", "3x3 stride 2", "4x4 stride 2", "3", "5 dilated", "3x3x3"],
)
def test_errors_of_both(layer: Callable[[], nn.Module], fast: str, precise: str, tmp_path: Path) -> None:
    model = layer()
    x = X.reshape(4, 32, *{nn.Conv1d: (256,), nn.Conv2d: (16, 16), nn.Conv3d: (4, 8, 8)}[type(model)])
    # The float64 kernels know the direct sum alone.
    attrs = {"stride": [model.stride[0]] * (x.ndim - 2), "padding": [model.padding[0]] * (2 * (x.ndim - 2))}
    attrs |= {"dilation": [model.dilation[0]] * (x.ndim - 2), "groups": model.groups}
    attrs["layout"] = "ncdhw" if x.ndim == 5 else "nchw"
    wide, weight = x.astype(np.float64), np.asarray(model.weight.numpy(), np.float64)
    if x.ndim == 3:  # a signal is an image of height 1
        wide, weight = wide[:, :, None], weight[:, :, None]
        attrs |= {"stride": [1, 1], "padding": [0, 0, *attrs["padding"]], "dilation": [1, *attrs["dilation"]]}
    inputs = [_core.Tensor.from_numpy(a, copy=True) for a in (wide, weight)]
    want = _core.run_op("conv3d" if x.ndim == 5 else "conv2d", inputs, attrs, backend="ref")[0].numpy()
    want = want[:, :, 0] if x.ndim == 3 else want
    want = want + np.asarray(model.bias.numpy()).reshape(1, -1, *[1] * (x.ndim - 2))
    found = {}
    for name, algorithm in (("fast", fast), ("precise", precise)):
        dl.set_precision(name)
        assert dl.precision() == dl.info()["precision"] == name
        program = dl.freeze(model, example=x)
        assert f'algorithm="{algorithm}"' in str(program)
        program.save(tmp_path / name)
        found[name] = dl.load(tmp_path / name).run(x)
    # A chain of 25·32 products rounds as much as two of their transforms, as 27·32 by the transforms of nine; nine are
    # better off.
    assert error(found["precise"], want) < (1e-6 if precise == "winograd2" and x.ndim == 4 else 2e-6)
    assert error(found["fast"], want) < 1e-5
    assert precise == "direct" or error(found["precise"], want) < error(found["fast"], want)
    assert not np.array_equal(found["fast"], found["precise"])
    # A file keeps what it was frozen with, whatever holds where it is loaded.
    dl.set_precision("precise")
    assert np.array_equal(dl.load(tmp_path / "fast").run(x), found["fast"])


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
