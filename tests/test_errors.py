"""The error table: for each mistake a user makes, the exception and the message they see."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import data, nn, optim, schedule

X = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
Y = np.arange(40) % 3


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def trainer(model: nn.Module | None = None, **more: Any) -> dl.Trainer:
    return dl.Trainer(model or mlp(), loss=nn.CrossEntropyLoss(), optimizer=optim.SGD(lr=0.1), **more)


def split() -> tuple[Any, Any]:
    return data.ArrayDataset(X, Y).split(test=0.25, seed=0)


def traced(body: Callable[[dl.Tensor], Any]) -> Callable[[], Any]:
    return lambda: dl.compile(body)(dl.tensor(X))


def python_if(x: dl.Tensor) -> dl.Tensor:
    if x.sum() > 0:
        return x
    return -x


def labels(values: Any) -> Callable[[], Any]:
    return lambda: trainer().fit(data.ArrayDataset(X, values), epochs=1, verbose=False)


def with_nan() -> Any:
    x = X.copy()
    x[7, 2] = np.nan
    return trainer().fit(data.ArrayDataset(x, Y), epochs=1, verbose=False)


def deep_wrong_shape() -> Any:
    model = nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.ReLU(), nn.Linear(7, 3)))
    return model(dl.tensor(X))


def attend(shape: tuple[int, ...]) -> dl.Tensor:
    return nn.functional.scaled_dot_product_attention(*(dl.ones(shape) for _ in range(3)))


TABLE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    (
        "wrong inner size",
        lambda: dl.matmul(dl.ones((32, 784)), dl.ones((700, 10))),
        ValueError,
        r"\[matmul\] inner sizes differ: \(32, 784\) @ \(700, 10\)",
    ),
    (
        "shapes that do not broadcast",
        lambda: dl.ones((3, 4)) + dl.ones((3, 5)),
        ValueError,
        r"\[add\] shapes do not broadcast: \(3, 4\) and \(3, 5\)",
    ),
    ("wrong shape deep in a model", deep_wrong_shape, ValueError, r"1\.1"),
    ("axis out of range", lambda: dl.ones((3, 4)).sum(axis=2), ValueError, r"axis 2 is out of range"),
    ("reshape", lambda: dl.ones((3, 4)).reshape(5, 3), ValueError, r"\(3, 4\)"),
    ("float indices", lambda: nn.Embedding(5, 2)(dl.ones((3,))), TypeError, r"int"),
    ("index out of range", lambda: nn.Embedding(5, 2)(dl.tensor(np.array([1, 9]))), IndexError, r"9.*\[0, 5\)"),
    ("complex data", lambda: dl.tensor(np.ones(3, complex)), TypeError, r"complex"),
    ("text data", lambda: dl.tensor(["a", "b"]), TypeError, r""),
    ("ragged data", lambda: dl.tensor([[1, 2], [3]]), ValueError, r""),
    ("label out of range", labels(np.arange(40) % 4), (ValueError, IndexError), r"label 3"),
    ("negative label", labels(np.where(np.arange(40) == 5, -1, Y)), (ValueError, IndexError), r"label -1"),
    ("NaN label", labels(np.where(np.arange(40) == 5, np.nan, Y)), ValueError, r"(?i)row 5 is nan"),
    ("NaN input", with_nan, (ValueError, dl.TrainingError), r"(?i)nan"),
    ("lengths differ", lambda: data.ArrayDataset(X, Y[:-1]), ValueError, r"40.*39"),
    ("empty data", lambda: data.ArrayDataset(X[:0], Y[:0]).split(test=0.2), ValueError, r"(?i)empty|no rows|0 rows"),
    (
        "fit on empty data",
        lambda: trainer().fit(data.ArrayDataset(X[:0], Y[:0]), epochs=1),
        ValueError,
        r"(?i)empty|no rows|0 rows",
    ),
    ("test share out of range", lambda: data.ArrayDataset(X, Y).split(test=1.5), ValueError, r"1\.5"),
    ("test set given to fit", lambda: trainer().fit(split()[1], epochs=1), ValueError, r"(?i)test set|sealed"),
    (
        "test set as validation",
        lambda: trainer().fit(split()[0], epochs=1, validation=split()[1]),
        ValueError,
        r"(?i)test set|sealed",
    ),
    ("test set given to a normaliser", lambda: data.Normalize().fit(split()[1]), ValueError, r"(?i)test set|sealed"),
    ("python if on a traced tensor", traced(python_if), dl.TraceError, r"test_errors\.py:\d+"),
    ("float of a traced tensor", traced(lambda x: float(x.sum())), dl.TraceError, r"float"),
    (".numpy() of a traced tensor", traced(lambda x: x.numpy()), dl.TraceError, r"numpy"),
    (
        "unknown state key",
        lambda: mlp().load_state_dict({**mlp().state_dict(), "9.weight": X}),
        (KeyError, ValueError),
        r"9\.weight",
    ),
    ("missing state key", lambda: mlp().load_state_dict({}), (KeyError, ValueError), r"0\.weight"),
    (
        "mismatched state",
        lambda: mlp().load_state_dict({**mlp().state_dict(), "0.weight": X}),
        ValueError,
        r"\(40, 6\)",
    ),
    ("unknown metric", lambda: trainer(metrics=["acuracy"]), (KeyError, ValueError), r"acuracy.*accuracy"),
    ("negative learning rate", lambda: optim.AdamW(lr=-1.0), ValueError, r"-1"),
    ("learning rate of no number", lambda: optim.AdamW(lr=float("nan")), ValueError, r"nan"),
    ("betas", lambda: optim.Adam(betas=(1.5, 0.9)), ValueError, r"betas.*1\.5"),
    ("a group's momentum", lambda: optim.SGD(groups={"*": {"momentum": -1}}), ValueError, r"momentum.*-1"),
    ("schedule of no steps", lambda: schedule.cosine(0.1, 0), ValueError, r"steps.*at least 1"),
    ("no heads", lambda: nn.MultiheadAttention(8, 0), ValueError, r"0 equal heads"),
    ("no groups", lambda: nn.GroupNorm(0, 4), ValueError, r"0 equal groups"),
    ("zero threads", lambda: dl.set_num_threads(0), ValueError, r"0"),
    ("item of many", lambda: dl.ones((2,)).item(), ValueError, r"2"),
    ("gradient of a vector", lambda: dl.grad(lambda x: x * 2)(dl.ones((3,))), ValueError, r"scalar"),
    ("file that is not there", lambda: dl.load("no/such/file.dlcore"), FileNotFoundError, r"file\.dlcore"),
    ("loss of wrong shape", lambda: nn.MSELoss()(dl.ones((3, 1)), dl.ones((4,))), ValueError, r""),
    ("groups that do not divide", lambda: nn.Conv2d(6, 8, 3, groups=4), ValueError, r"groups"),
    (
        "kernel larger than image",
        lambda: nn.Conv2d(1, 2, 5)(dl.ones((1, 1, 3, 3))),
        ValueError,
        r"\(1, 1, 3, 3\)|3x3|3, 3",
    ),
    ("a signal's size", lambda: nn.functional.max_pool1d(dl.ones((1, 2, 8)), (2, 2)), ValueError, r"one int.*\(2, 2\)"),
    ("a signal's weight", lambda: nn.functional.conv1d(dl.ones((1, 2, 8)), 3.0), ValueError, r"\[conv1d\].*three axes"),
    ("no output", lambda: nn.functional.adaptive_avg_pool2d(dl.ones((1, 2, 8, 8)), 0), ValueError, r"output_size.*0"),
    ("more than memory", lambda: nn.AdaptiveMaxPool2d(10**12)(dl.ones((1, 2, 8, 8))), ValueError, r"output_size"),
    ("no pixels", lambda: nn.functional.interpolate(dl.ones((1, 2, 0, 8)), size=4), ValueError, r"\(1, 2, 0, 8\)"),
    ("attention of nothing", lambda: attend((2, 3, 0)), ValueError, r"\[attention\].*\(2, 3, 0\)"),
    ("no equation", lambda: dl.einsum(dl.ones((2, 2)), "ij->ji"), TypeError, r"\[einsum\].*Tensor"),
    ("no parts", lambda: dl.chunk(dl.ones((4,)), 0), ValueError, r"\[chunk\].*0"),
    ("channels differ", lambda: nn.Conv2d(3, 2, 3)(dl.ones((1, 1, 8, 8))), ValueError, r"3"),
]


@pytest.mark.parametrize(("call", "kind", "message"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_error(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(kind, match=message):
            call()


def test_a_text_file_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "notes.dlcore"
    path.write_text("hello")
    with pytest.raises(dl.FileError, match=r"notes\.dlcore"):
        dl.load(path)


def test_a_failed_fit_leaves_a_usable_model() -> None:
    t = trainer()
    with pytest.raises(ValueError, match="label"):
        t.fit(data.ArrayDataset(X, np.arange(40) % 4), epochs=1, verbose=False)
    t.fit(data.ArrayDataset(X, Y), epochs=1, verbose=False)
    assert np.isfinite(t.evaluate(data.ArrayDataset(X, Y))["loss"])
