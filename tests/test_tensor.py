"""Tensors and their functions against NumPy; what is strict while tracing; conversions in and out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore.dtype import ALL, as_dtype, promote

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4, 5)).astype(np.float32)
B = RNG.standard_normal((4, 5)).astype(np.float32)
P = np.abs(A) + 0.5
I = RNG.integers(-9, 9, (3, 4, 5))  # noqa: E741


def same(got: Any, want: Any, rtol: float = 2e-6) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=rtol, atol=2e-6)


UNARY: dict[str, Callable[[Any], Any]] = {
    "sqrt": np.sqrt, "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sin": np.sin, "cos": np.cos,
    "tanh": np.tanh, "floor": np.floor, "ceil": np.ceil, "round": np.round, "abs": np.abs, "sign": np.sign,
    "square": np.square, "neg": np.negative, "reciprocal": lambda x: 1 / x, "rsqrt": lambda x: x**-0.5,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "relu": lambda x: np.maximum(x, 0), "isnan": np.isnan,
    "isfinite": np.isfinite,
}  # fmt: skip


@pytest.mark.parametrize("name", list(UNARY))
def test_unary(name: str) -> None:
    same(getattr(dl, name)(dl.tensor(P)), UNARY[name](P))


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip


@pytest.mark.parametrize("op", list(BINARY))
@pytest.mark.parametrize(("a", "b"), [(A, B), (A, 2.5), (2.5, A), (I, 3), (I, 2.5), (B[0], A)])
def test_binary(op: str, a: Any, b: Any) -> None:
    f = BINARY[op]
    ours = f(dl.tensor(a) if isinstance(a, np.ndarray) else a, dl.tensor(b) if isinstance(b, np.ndarray) else b)
    same(ours, f(a, b), 1e-5)


def test_power() -> None:
    x = dl.tensor(P)
    for e in (0.5, 1, 2, 3, -1, 1.7):
        same(x**e, P**e, 1e-5)
    same(2.0**x, 2.0**P, 1e-5)
    same(dl.tensor(np.array([2, 3])) ** 4, np.array([16, 81]))


REDUCE: dict[str, Callable[..., Any]] = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "var": np.var, "std": np.std,
}  # fmt: skip


@pytest.mark.parametrize("name", list(REDUCE))
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(name: str, axis: Any, keepdims: bool) -> None:
    same(getattr(dl, name)(dl.tensor(A), axis, keepdims=keepdims), REDUCE[name](A, axis, keepdims=keepdims), 1e-5)


def test_order_and_search() -> None:
    x = dl.tensor(A)
    for axis in (0, 1, -1):
        same(dl.argmax(x, axis), A.argmax(axis))
        same(dl.argmin(x, axis, keepdims=True), A.argmin(axis, keepdims=True))
        same(dl.sort(x, axis)[0], np.sort(A, axis))
        same(dl.argsort(x, axis), np.argsort(A, axis, kind="stable"))
        same(dl.cumsum(x, axis), A.cumsum(axis), 1e-5)
        same(dl.topk(x, 2, axis)[0], -np.sort(-A, axis).take([0, 1], axis))
        same(dl.prod(x, axis), A.prod(axis), 1e-5)
        same(dl.take_along_axis(x, dl.argsort(x, axis), axis), np.sort(A, axis))
    same(x.argmax(), A.argmax())
    same(dl.any(x > 2), (A > 2).any())
    same(dl.all(x > -9, 1), (A > -9).all(1))
    same(dl.softmax(x, 1).sum(1), np.ones((3, 5)))
    same(dl.logsumexp(x, 1), np.log(np.exp(A).sum(1)), 1e-5)
    same(dl.logsumexp(dl.tensor([-np.inf, -np.inf]), 0), -np.inf)
    same(dl.norm(x), np.linalg.norm(A), 1e-5)
    same(dl.norm(x, 1, 1), np.abs(A).sum(1), 1e-5)
    same(dl.sum(dl.tensor([True, False, True])), 2)


INDICES: list[Any] = [
    0, -1, slice(1, 3), slice(None, None, -1), slice(5, 0, -2), (slice(None), 2), (Ellipsis, 1), (None, 1, Ellipsis),
    (1, None, slice(None, None, 2), -1), (slice(2, 1),), (slice(None), slice(-3, None), slice(None, -1)),
    np.array([2, 0, 0]), np.array([[1, -1], [0, 2]]), [0, 2], (slice(None), np.array([3, 1])),
    (Ellipsis, np.array([[0, 4]])), (0, np.array([1, 2])), (np.array([0, 1]), np.array([2, 3])),
    (slice(1, None), np.array([0, 1, 2]), np.array([4, -1, 0])), (np.array([[0], [2]]), np.array([1, 2, 3]), 2),
    A > 0, A[:, 0, 0] > 0, (slice(None), B[:, 0] > 0),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=lambda i: str(i)[:40].replace("\n", ""))
def test_indexing(index: Any) -> None:
    same(dl.tensor(A)[index], A[index])


@pytest.mark.parametrize("index", [3, -4, (0, 0, 0, 0), (Ellipsis, Ellipsis), np.array([0, 3]), 1.5, True, "a"])
def test_wrong_indices(index: Any) -> None:
    with pytest.raises(IndexError):
        dl.tensor(A)[index]


def test_shapes() -> None:
    x = dl.tensor(A)
    same(x.reshape(-1, 5), A.reshape(-1, 5))
    same(x.reshape((5, 12)), A.reshape(5, 12))
    same(x.T, A.T)
    same(x.mT, A.swapaxes(-1, -2))
    same(x.transpose(1, 0, 2), A.transpose(1, 0, 2))
    same(dl.flatten(x, 1), A.reshape(3, 20))
    same(dl.moveaxis(x, 0, -1), np.moveaxis(A, 0, -1))
    same(dl.squeeze(x[:, :1], 1), A[:, 0])
    same(dl.expand_dims(x, -1), A[..., None])
    same(dl.concatenate([x, x[:1]], 0), np.concatenate([A, A[:1]]))
    same(dl.stack([x, x + 1], -1), np.stack([A, A + 1], -1))
    for got, want in zip(dl.split(x, [1, 3], 1), np.split(A, [1, 3], 1), strict=True):
        same(got, want)
    assert [p.shape for p in dl.chunk(x, 3, 2)] == [(3, 4, 2), (3, 4, 2), (3, 4, 1)]
    same(dl.pad(x, [(0, 1), (2, 0), (0, 0)], 7.0), np.pad(A, [(0, 1), (2, 0), (0, 0)], constant_values=7))
    same(dl.flip(x, (0, 2)), np.flip(A, (0, 2)))
    same(dl.roll(x, 2, 1), np.roll(A, 2, 1))
    same(dl.repeat(x, 3, 1), np.repeat(A, 3, 1))
    same(dl.tile(x, (2, 1, 3)), np.tile(A, (2, 1, 3)))
    same(dl.take(x, np.array([[1, 0], [3, 3]]), 1), A.take([[1, 0], [3, 3]], 1))
    same(dl.broadcast_to(dl.tensor(B), (2, 4, 5)), np.broadcast_to(B, (2, 4, 5)))
    same(dl.where(x > 0, x, 0.0), np.where(A > 0, A, 0))
    same(dl.clip(x, -0.5, 0.5), A.clip(-0.5, 0.5))
    same(dl.scatter_add(dl.tensor(B), np.array([1, 0, 1, 2]), 4), np.stack([B[1], B[0] + B[2], B[3], B[0] * 0]))


def test_creation() -> None:
    same(dl.arange(5), np.arange(5))
    same(dl.arange(2, 11, 3), np.arange(2, 11, 3))
    same(dl.arange(5, 0, -2), np.arange(5, 0, -2))
    same(dl.arange(0, 1, 0.25), np.arange(0, 1, 0.25))
    same(dl.linspace(-1, 2, 7), np.linspace(-1, 2, 7))
    same(dl.eye(3, 4), np.eye(3, 4))
    same(dl.one_hot(dl.tensor([0, 2]), 3), np.eye(3)[[0, 2]])
    same(dl.tril(dl.tensor(A), 1), np.tril(A, 1))
    same(dl.triu(dl.tensor(A), -1), np.triu(A, -1))
    assert dl.full((2,), 3).dtype == "int64"
    assert dl.zeros((2, 3)).dtype == np.float32
    assert dl.ones_like(dl.arange(3)).dtype == dl.int64


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(3, 4), (4, 5)]), ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("ij->ji", [(3, 4)]),
     ("ii->i", [(3, 3)]),
     ("ii", [(3, 3)]), ("ij->", [(3, 4)]), ("i,j->ij", [(3,), (4,)]), ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
     ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]), ("i,i->", [(4,), (4,)]), ("ij,ij->i", [(3, 4), (3, 4)]),
     ("abc,cd", [(2, 3, 4), (4, 5)])],
)  # fmt: skip
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [RNG.standard_normal(s).astype(np.float32) for s in shapes]
    same(dl.einsum(equation, *map(dl.tensor, arrays)), np.einsum(equation, *arrays), 1e-5)


def test_matmul() -> None:
    v, m = A[0, 0], A[0]
    for a, b in [(m, v), (v, v), (A, B.T), (v, A.swapaxes(1, 2)), (A, A.swapaxes(1, 2))]:
        same(dl.tensor(a) @ dl.tensor(b), a @ b, 1e-5)


def test_dtypes() -> None:
    x = dl.tensor(np.zeros(2))
    assert x.dtype is dl.float32
    assert x.dtype == "float32"
    assert x.dtype == np.float32
    assert x.dtype != "float64"
    assert dl.float64 != None  # noqa: E711  (NumPy takes None for float64)
    assert repr(x.dtype) == "dlcore.float32"
    assert dl.tensor(np.zeros(2), dtype="float64").dtype == np.float64
    assert dl.tensor([1, 2]).dtype == dl.int64
    assert dl.tensor([True]).dtype == dl.bool
    assert dl.tensor(np.zeros(2, np.uint16)).dtype == dl.int32
    assert dl.tensor([1.5, -2.7]).astype("int32").numpy().tolist() == [1, -2]
    assert dl.tensor([1.0, 2.5]).astype(dl.bfloat16).numpy().tolist() == [1.0, 2.5]
    with pytest.raises(TypeError, match="complex64"):
        as_dtype("complex64")
    i = dl.arange(3)
    assert (i + 1).dtype == "int64"
    assert (i + 1.5).dtype == "float32"
    assert (i / 2).dtype == "float32"
    assert (i + dl.ones(3)).dtype == "float32"
    assert (dl.ones(3) * dl.tensor(2.0, dtype="float64")).dtype == "float32"
    assert (dl.ones(3) * dl.ones(3, "float64")).dtype == "float64"


def test_promotion_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for a in ALL:
        for b in ALL:
            for na in (0, 1):
                for nb in (0, 1):
                    want = torch.result_type(
                        torch.zeros((1,) * na, dtype=getattr(torch, a.name)),
                        torch.zeros((1,) * nb, dtype=getattr(torch, b.name)),
                    )
                    got = promote([(a, na), (b, nb)])
                    assert got.name == str(want).split(".")[1] or want is torch.int16, (a, na, b, nb)


def test_ways_in_and_out() -> None:
    x = dl.tensor(A)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(dl.asarray(A).numpy(), A)
    assert not np.shares_memory(x.numpy(), A)
    assert not x.numpy().flags.writeable
    assert np.shares_memory(np.from_dlpack(x), x.numpy())
    assert np.shares_memory(dl.from_dlpack(A).numpy(), A)
    assert (len(x), x.size, x.ndim, x.device) == (3, 60, 3, "cpu")
    assert dl.tensor(2.5).item() == 2.5
    assert float(dl.tensor([[3]])) == 3.0
    assert [int(v) for v in dl.arange(3)] == [0, 1, 2]
    assert f"{dl.tensor(1.23456):.2f}" == "1.23"
    assert "shape=(3, 4, 5)" in repr(x)
    assert copy.deepcopy(x) is x
    same(np.add(A, x), A + A)
    with pytest.raises(TypeError, match="where"):
        x[0] = 1.0
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(TypeError, match="safetensors"):
        copy.copyreg.__reduce_ex__(x, 2) if False else x.__reduce__()  # type: ignore[attr-defined]


def test_pytorch_memory() -> None:
    torch = pytest.importorskip("torch")
    t = torch.tensor(A, requires_grad=True)
    same(dl.tensor(t), A)
    assert torch.from_dlpack(dl.tensor(A)).shape == (3, 4, 5)
    same(dl.tensor(torch.ones(3, dtype=torch.bfloat16)), np.ones(3))


STRICT: dict[str, tuple[Callable[[dl.Tensor], Any], str]] = {
    "if": (lambda x: 1 if x.sum() > 0 else 2, "dl.where"),
    "float": (lambda x: float(x.sum()), "float"),
    "int": (lambda x: int(x.sum()), "int"),
    "item": (lambda x: x.sum().item(), "item"),
    "numpy": (lambda x: x.numpy(), "numpy"),
    "np": (lambda x: np.sin(np.asarray(x)), "NumPy"),
    "for": (lambda x: list(x), "range"),
    "mask": (lambda x: x[x > 0], "dl.where"),
    "list": (lambda x: dl.tensor([x[0, 0, 0], x[0, 0, 1]]), "dl.stack"),
}


@pytest.mark.parametrize("name", list(STRICT))
def test_tracing_is_strict(name: str) -> None:
    function, remedy = STRICT[name]
    with pytest.raises(dl.TraceError, match=r"test_tensor\.py:\d+") as error:
        dl.compile(function)(dl.tensor(A))
    assert remedy in str(error.value)


def test_a_traced_tensor_that_was_kept() -> None:
    kept: list[dl.Tensor] = []
    dl.compile(lambda x: kept.append(x * 2) or x)(dl.tensor(A))
    with pytest.raises(dl.TraceError, match="return it"):
        kept[0] + 1
    with pytest.raises(dl.TraceError, match="another call"):
        dl.compile(lambda x: x + kept[0])(dl.tensor(A))


def test_random() -> None:
    dl.seed(3)
    a, b = dl.random.normal(shape=(20000,)).numpy(), dl.random.uniform(-1, 3, shape=(20000,)).numpy()
    assert abs(a.mean()) < 0.03
    assert abs(a.std() - 1) < 0.03
    assert -1 <= b.min() < -0.99
    assert 2.99 < b.max() < 3
    assert abs(b.mean() - 1) < 0.03
    assert sorted(dl.random.permutation(1000).tolist()) == list(range(1000))
    r = dl.random.randint(-2, 3, (5000,)).numpy()
    assert set(r.tolist()) == {-2, -1, 0, 1, 2}
    dl.seed(3)
    assert np.array_equal(a, dl.random.normal(shape=(20000,)).numpy())
    held = dl.random.get_state()
    c = dl.random.normal(shape=4).numpy()
    dl.random.set_state(held)
    assert np.array_equal(c, dl.random.normal(shape=4).numpy())
    draw = dl.compile(lambda: (dl.random.normal(shape=4), dl.random.normal(shape=4)))
    (u, v), (w, _) = draw(), draw()
    assert len({t.numpy().tobytes() for t in (u, v, w)}) == 3


def test_empty() -> None:
    x = dl.zeros((0, 3))
    assert (x + 1).shape == (0, 3)
    same(x.sum(0), np.zeros(3))
    assert dl.concatenate([x, dl.ones((2, 3))]).shape == (2, 3)
    assert (x @ dl.ones((3, 2))).shape == (0, 2)
    with pytest.raises(ValueError, match="no elements"):
        x.max(0)
