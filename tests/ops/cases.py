"""One table of cases for every op: the op tests, the gradient checks and the kernel benchmarks all read it.

A case names an op, its inputs, its attributes, which inputs are differentiated, and what NumPy says the result is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Arg:
    """An input: its shape and how it is filled. dtype "f" follows the test (f32 or f64)."""

    shape: tuple[int, ...]
    fill: str = "normal"  # normal | positive | unit | distinct | index | bool | key | scalar value after "="
    high: int = 0  # for index
    dtype: str = "f"

    def make(self, rng: np.random.Generator) -> Array:
        return np.asarray(self._fill(rng))

    def _fill(self, rng: np.random.Generator) -> Any:
        if self.fill == "index":
            return rng.integers(0, self.high, self.shape)
        if self.fill == "bool":
            return rng.random(self.shape) < 0.5
        if self.fill == "key":
            return np.array([1234, 7], np.int64)
        if self.fill.startswith("="):
            return np.full(self.shape, float(self.fill[1:]))
        if self.fill == "distinct":  # no two closer than the step of a finite difference
            n = math.prod(self.shape)
            return ((rng.permutation(n) - n / 2 + 0.5) * (4.0 / max(n, 1))).reshape(self.shape)
        x = rng.standard_normal(self.shape)
        if self.fill == "positive":
            return np.abs(x) + 0.2
        if self.fill == "unit":
            return rng.uniform(-0.9, 0.9, self.shape)
        if self.fill == "away":  # from the kinks at integers and zero
            return np.sign(x) * (np.floor(np.abs(x)) + 0.25 + 0.5 * rng.random(self.shape))
        if self.fill == "mask":  # some hidden, never a whole row of more than one
            return np.where((rng.random(self.shape) < 0.4) & (np.arange(self.shape[-1]) > 0), -np.inf, x)
        return x


@dataclass(frozen=True)
class Case:
    op: str
    inputs: tuple[Arg, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    grad: tuple[int, ...] = ()
    expect: Callable[..., Any] | None = None
    tolerance: float = 2e-6  # of f32 against f64, relative to the largest element (times sqrt of a reduction's length)
    second: bool = True  # differentiate twice
    outputs: int | None = None  # the first so many are differentiated; the others are there for the backward op alone
    label: str = ""

    @property
    def name(self) -> str:
        shapes = "_".join("x".join(map(str, a.shape)) or "s" for a in self.inputs)
        return f"{self.op}-{shapes}{'-' + self.label if self.label else ''}"

    def arrays(self, seed: int = 0) -> list[Array]:
        rng = np.random.default_rng([seed, *self.name.encode()])
        return [a.make(rng) for a in self.inputs]


CASES: list[Case] = []


def case(op: str, *inputs: Arg | tuple[int, ...], expect: Callable[..., Any] | None = None, **more: Any) -> None:
    known = {k: more.pop(k) for k in ("grad", "tolerance", "second", "outputs", "label") if k in more}
    args = tuple(a if isinstance(a, Arg) else Arg(a) for a in inputs)
    CASES.append(Case(op, args, more, expect=expect, **known))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[float])(x) if x.size else x


# Element-wise, one input. Shapes: a whole vector, tails, scalar, nothing.
UNARY: dict[str, tuple[Callable[..., Any], str]] = {
    "neg": (np.negative, "normal"),
    "abs": (np.abs, "away"),
    "sign": (np.sign, "away"),
    "relu": (lambda x: np.maximum(x, 0), "away"),
    "sqrt": (np.sqrt, "positive"),
    "rsqrt": (lambda x: 1 / np.sqrt(x), "positive"),
    "reciprocal": (lambda x: 1 / x, "positive"),
    "exp": (np.exp, "normal"),
    "expm1": (np.expm1, "normal"),
    "log": (np.log, "positive"),
    "log1p": (np.log1p, "positive"),
    "sin": (np.sin, "normal"),
    "cos": (np.cos, "normal"),
    "tanh": (np.tanh, "normal"),
    "sigmoid": (sigmoid, "normal"),
    "erf": (erf, "normal"),
    "gelu": (lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), "normal"),
    "gelu_slope": (
        lambda x: 0.5 * (1 + erf(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
        "normal",
    ),
    "gelu_tanh": (lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), "normal"),
    "silu": (lambda x: x * sigmoid(x), "normal"),
    "softplus": (lambda x: np.logaddexp(x, 0), "normal"),
    "floor": (np.floor, "away"),
    "ceil": (np.ceil, "away"),
    "round": (np.round, "away"),
    "copy": (lambda x: x, "normal"),
    "stop_gradient": (lambda x: x, "normal"),
}
for _op, (_fn, _fill) in UNARY.items():
    case(_op, Arg((3, 37), _fill), expect=_fn, grad=() if _op == "stop_gradient" else (0,))
    case(_op, Arg((), _fill), expect=_fn)
    case(_op, Arg((0, 4), _fill), expect=_fn)
for _shape in [(3, 37), (), (0, 4)]:
    case("gelu_with_slope", _shape, expect=lambda x: (UNARY["gelu"][0](x), UNARY["gelu_slope"][0](x)), grad=(0,))
case("isnan", (5, 7), expect=np.isnan)
case("isfinite", (5, 7), expect=np.isfinite)
case("logical_not", Arg((5, 7), "bool"), expect=np.logical_not)

# Two inputs, broadcast in each of the ways that occur.
BINARY: dict[str, tuple[Callable[..., Any], str]] = {
    "add": (np.add, "normal"),
    "sub": (np.subtract, "normal"),
    "mul": (np.multiply, "normal"),
    "div": (np.divide, "positive"),
    "maximum": (np.maximum, "distinct"),
    "minimum": (np.minimum, "distinct"),
}
SHAPES = [
    ((4, 33), (4, 33)),
    ((6, 10), (10,)),
    ((2, 5, 4, 4), (1, 5, 1, 1)),
    ((7, 19), (7, 1)),
    ((), (9,)),
    ((5, 1), (1, 6)),
]
for _op, (_fn, _fill) in BINARY.items():
    for _a, _b in SHAPES:
        if _fill == "distinct":
            case(_op, Arg(_a, "distinct"), Arg(_b, "normal"), expect=_fn, grad=(0, 1), second=False)
        else:
            case(_op, Arg(_a), Arg(_b, _fill), expect=_fn, grad=(0, 1))
case("pow", Arg((4, 9), "positive"), Arg((4, 9)), expect=np.power, grad=(0, 1), tolerance=4e-6)
case("pow", Arg((4, 9), "positive"), Arg((), "=2"), expect=np.power, grad=(0,))
case("remainder", Arg((4, 9), "away"), Arg((4, 9), "positive"), expect=np.mod, tolerance=1e-5)
for _op, _fn in {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}.items():
    case(_op, Arg((4, 33), "away"), Arg((33,), "away"), expect=_fn)
    case(_op, Arg((4, 33), "index", 3, "i64"), Arg((33,), "index", 3, "i64"), expect=_fn, label="i64")
for _op, _fn in {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}.items():
    case(_op, Arg((4, 33), "bool"), Arg((33,), "bool"), expect=_fn)
case("where", Arg((4, 17), "bool"), (4, 17), (17,), expect=np.where, grad=(1, 2))
case("where", Arg((4, 1), "bool"), (), (4, 17), expect=np.where, grad=(1, 2))
case("cast", (5, 9), dtype="f64", expect=lambda x: x, grad=(0,))
case("cast", Arg((5, 9), "away"), dtype="i64", expect=np.trunc)
case("cast", Arg((5, 9), "bool"), dtype="f32", expect=lambda x: x.astype(float))
case("cast", Arg((5, 9), "index", 200, "u8"), dtype="f32", expect=lambda x: x.astype(float))
case(
    "fused",
    (4, 33),
    (33,),
    code="t0=mul(x0,x1);t1=add(t0,#0.5);t2=relu(t1);out t2,t0",
    label="chain",
    expect=lambda x, y: (np.maximum(x * y + 0.5, 0), x * y),
    tolerance=4e-6,
)

# Sources.
case("full", value=2.5, shape=[3, 4], dtype="f32", expect=lambda: np.full((3, 4), 2.5))
case("iota", size=17, dtype="i64", expect=lambda: np.arange(17))
case("random_uniform", Arg((2,), "key", dtype="i64"), shape=[5, 9], site=3, low=-1.0, high=2.0)
case("random_normal", Arg((2,), "key", dtype="i64"), shape=[5, 9], site=3)
case("dropout", (6, 35), Arg((2,), "key", dtype="i64"), p=0.3, site=2, grad=(0,))
for _shape in ((2, 3, 4, 5), (3, 6, 20), (2, 3, 3, 37), (5, 2, 2, 2, 16), (2, 70, 33), (0, 3, 4)):
    case("dropout", _shape, Arg((2,), "key", dtype="i64"), p=0.3, site=2, channels_last=1)

# Shape.
case("reshape", (4, 6), shape=[3, 8], expect=lambda x: x.reshape(3, 8), grad=(0,))
for _shape, _perm in (
    ((5, 7), (1, 0)),
    ((3, 5, 7), (0, 2, 1)),
    ((2, 3, 4, 5), (0, 2, 3, 1)),
    ((2, 4, 5, 3), (0, 3, 1, 2)),
    ((2, 5, 3, 8), (0, 2, 1, 3)),
    ((33, 65), (1, 0)),
):
    case(
        "transpose",
        _shape,
        perm=list(_perm),
        grad=(0,),
        label="".join(map(str, _perm)),
        expect=lambda x, p=_perm: np.transpose(x, p),
    )
case("broadcast_to", (5, 1), shape=[3, 5, 4], expect=lambda x: np.broadcast_to(x, (3, 5, 4)), grad=(0,))
case("reverse", (3, 9), axes=[1], expect=lambda x: x[:, ::-1], grad=(0,))
case("slice", (6, 20), start=[1, 2], stop=[5, 19], step=[1, 3], expect=lambda x: x[1:5, 2:19:3], grad=(0,))
case(
    "pad",
    (3, 5),
    low=[1, 2],
    high=[0, 3],
    interior=[0, 0],
    value=1.5,
    grad=(0,),
    expect=lambda x: np.pad(x, ((1, 0), (2, 3)), constant_values=1.5),
)
case("concat", (2, 3, 4), (2, 5, 4), axis=1, expect=lambda a, b: np.concatenate([a, b], 1), grad=(0, 1))

# Reductions: trailing, leading, middle, all, none.
for _axes in ([1], [0], [0, 1], [2], [0, 2], [1, 2], [0, 1, 2], []):
    _keep = bool(len(_axes) % 2)
    for _op, _fn in (("sum", np.sum), ("max", np.max), ("min", np.min)):
        case(
            _op,
            Arg((4, 7, 37), "distinct" if _op != "sum" else "normal"),
            axes=_axes,
            keepdims=len(_axes) % 2,
            label="".join(map(str, _axes)),
            grad=(0,),
            tolerance=1e-5,
            expect=lambda x, f=_fn, a=tuple(_axes), k=_keep: f(x, axis=a, keepdims=k) if a else x,
        )
case("sum", (3, 1500), axes=[1], keepdims=0, expect=lambda x: x.sum(1), tolerance=1e-5)
case("sum", (1300, 5), axes=[0], keepdims=0, expect=lambda x: x.sum(0), tolerance=1e-5)
case("argmax", Arg((5, 19), "distinct"), axis=1, keepdims=0, expect=lambda x: x.argmax(1))
case("argmin", Arg((5, 19), "distinct"), axis=0, keepdims=1, expect=lambda x: x.argmin(0)[None])
case("cumsum", (3, 21), axis=1, reverse=0, expect=lambda x: np.cumsum(x, 1), grad=(0,), tolerance=1e-5)
case("cumsum", (21, 3), axis=0, reverse=1, expect=lambda x: np.cumsum(x[::-1], 0)[::-1], grad=(0,), tolerance=1e-5)
case(
    "sort",
    Arg((4, 23), "distinct"),
    axis=1,
    descending=0,
    grad=(0,),
    second=False,
    expect=lambda x: (np.sort(x, 1), np.argsort(x, 1, kind="stable")),
)

# Products: every transposition, tails, vectors, batches, broadcast batches.
for _ta in (0, 1):
    for _tb in (0, 1):
        for _m, _n, _k in (
            (5, 7, 3), (33, 65, 40), (1, 17, 9), (19, 1, 8), (64, 10, 128), (100, 70, 500),
            (160, 531, 300), (20, 1001, 260), (1, 100, 70), (2, 71, 50),
            (1, 605, 83), (1, 4200, 9), (2, 1030, 70), (3, 90, 150), (50, 600, 420), (160, 300, 1100),
            (1, 170, 530), (2, 530, 290), (3, 64, 600), (8, 40, 257), (12, 50, 790),
            (131, 3, 300), (150, 21, 290), (40, 6, 70), (200, 4, 33),
        ):  # fmt: skip
            case(
                "matmul",
                (_k, _m) if _ta else (_m, _k),
                (_n, _k) if _tb else (_k, _n),
                transpose_a=_ta,
                transpose_b=_tb,
                label=f"t{_ta}{_tb}",
                grad=(0, 1) if _m * _n * _k < 9000 else (),
                tolerance=1e-5,
                expect=lambda a, b, ta=_ta, tb=_tb: (a.T if ta else a) @ (b.T if tb else b),
            )
case("matmul", (3, 4, 5), (3, 5, 6), transpose_a=0, transpose_b=0, expect=np.matmul, grad=(0, 1), tolerance=1e-5)
case("matmul", (2, 3, 4, 5), (5, 6), transpose_a=0, transpose_b=0, expect=np.matmul, grad=(0, 1), tolerance=1e-5)
case(
    "matmul",
    (3, 1, 4, 5),
    (2, 6, 5),
    transpose_a=0,
    transpose_b=1,
    grad=(0, 1),
    tolerance=1e-5,
    expect=lambda a, b: a @ np.swapaxes(b, -1, -2),
)
case("matmul", (3, 20, 500), (3, 500, 520), transpose_a=0, transpose_b=0, expect=np.matmul, tolerance=1e-5)
case("matmul", (4, 0), (0, 3), transpose_a=0, transpose_b=0, expect=np.matmul)


def conv_out(size: int, kernel: int, stride: int, low: int, high: int, dilation: int) -> int:
    return (size + low + high - dilation * (kernel - 1) - 1) // stride + 1


def conv(
    n: int,
    c: int,
    h: int,
    w: int,
    o: int,
    k: tuple[int, int],
    stride: int = 1,
    pad: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> None:
    """The three directions in both layouts."""
    oh, ow = (conv_out(s, kk, stride, pad, pad, dilation) for s, kk in zip((h, w), k, strict=True))
    common = {"stride": [stride, stride], "padding": [pad] * 4, "dilation": [dilation, dilation], "groups": groups}
    for layout in ("nchw", "nhwc"):
        x = (n, c, h, w) if layout == "nchw" else (n, h, w, c)
        y = (n, o, oh, ow) if layout == "nchw" else (n, oh, ow, o)
        weight = (o, c // groups, *k)
        label = f"{layout}-s{stride}p{pad}d{dilation}g{groups}"
        small = math.prod(y) * math.prod(weight[1:]) < 60_000
        two = (0, 1) if small else ()
        case("conv2d", x, weight, **common, layout=layout, label=label, grad=two, tolerance=1e-5)
        case(
            "conv2d_backward_data",
            y,
            weight,
            **common,
            layout=layout,
            input_size=[h, w],
            label=label,
            grad=two,
            tolerance=1e-5,
        )
        case(
            "conv2d_backward_weight",
            x,
            y,
            **common,
            layout=layout,
            kernel=list(k),
            label=label,
            grad=two,
            tolerance=1e-5,
        )


conv(2, 3, 6, 7, 4, (3, 3), pad=1)
conv(2, 1, 9, 9, 5, (3, 3), stride=2, pad=1)
conv(1, 4, 7, 6, 6, (3, 2), dilation=2, groups=2)
conv(2, 6, 5, 5, 6, (3, 3), pad=1, groups=6)
conv(1, 20, 12, 11, 20, (5, 3), stride=2, pad=2, groups=20)
conv(1, 33, 9, 14, 33, (3, 7), pad=3, groups=33)
conv(1, 2, 9, 20, 2, (9, 9), pad=4, dilation=2, groups=2)
conv(2, 20, 9, 11, 20, (3, 3), pad=1, groups=5)
conv(1, 12, 9, 14, 24, (3, 3), stride=2, pad=1, groups=3)
conv(3, 10, 6, 9, 15, (2, 5), pad=2, groups=5)
conv(1, 40, 8, 7, 36, (3, 3), pad=1, groups=2)
conv(2, 3, 9, 40, 10, (5, 5), stride=2, pad=2)
conv(2, 8, 4, 4, 16, (1, 1))
conv(3, 3, 11, 10, 17, (5, 5), stride=2, pad=2)
conv(9, 16, 8, 8, 40, (3, 3), pad=1)
conv(2, 32, 7, 7, 64, (3, 3), stride=2, pad=1)
conv(1, 2, 1, 12, 3, (1, 4), stride=1)
conv(2, 2, 8, 19, 33, (3, 3), pad=1)
conv(1, 1, 17, 20, 16, (9, 9), pad=8, dilation=2)
conv(1, 11, 9, 20, 11, (9, 9), pad=4, groups=11)
conv(2, 20, 11, 19, 20, (3, 3), stride=2, pad=1, groups=20)
conv(1, 512, 2, 2, 256, (3, 3), pad=4)  # outputs that see padding alone, and weights beyond the caches


def conv3d(
    n: int, c: int, size: tuple[int, ...], o: int, k: tuple[int, ...], stride: tuple[int, ...] = (1, 1, 1),
    pad: tuple[int, ...] = (0,) * 6, dilation: tuple[int, ...] = (1, 1, 1), groups: int = 1, algorithm: str = "direct",
) -> None:  # fmt: skip
    """The three directions in both layouts; Winograd's has the one that the vectorised kernels have."""
    out = tuple(
        conv_out(s, k[i], stride[i], pad[2 * i], pad[2 * i + 1], dilation[i]) for i, s in enumerate(size)
    )  # fmt: skip
    weight = (o, c // groups, *k)
    for layout in ("ncdhw", "ndhwc")[algorithm != "direct" :]:
        x, y = ((n, c, *size), (n, o, *out)) if layout == "ncdhw" else ((n, *size, c), (n, *out, o))
        more: dict[str, Any] = {
            "stride": list(stride), "padding": list(pad), "dilation": list(dilation), "groups": groups,
            "layout": layout, "label": f"{layout}-k{k}-g{groups}-{algorithm}", "tolerance": 1e-5,
            "algorithm": algorithm,
            "grad": (0, 1) if math.prod(y) * math.prod(weight[1:]) < 20_000 else (),
        }  # fmt: skip
        case("conv3d", x, weight, **more)
        case("conv3d_backward_data", y, weight, **more, input_size=list(size))
        case("conv3d_backward_weight", x, y, **more, kernel=list(k))


conv3d(2, 3, (3, 4, 5), 4, (2, 3, 2), pad=(1, 0, 0, 1, 1, 1))
conv3d(1, 4, (5, 4, 3), 6, (2, 2, 2), stride=(2, 1, 2), pad=(1,) * 6, dilation=(2, 1, 1), groups=2)
conv3d(2, 6, (3, 4, 3), 6, (3, 2, 1), pad=(1,) * 6, groups=6)
conv3d(2, 20, (4, 5, 6), 40, (3, 3, 3), stride=(2, 2, 1), pad=(1,) * 6)
conv3d(9, 16, (1, 5, 6), 20, (1, 3, 3), pad=(0, 0, 1, 1, 1, 1))
conv3d(2, 2, (6, 5, 14), 17, (3, 3, 3), pad=(1, 1, 1, 1, 2, 2), dilation=(2, 2, 2))
conv3d(2, 32, (2, 2, 2), 8, (5, 1, 1), pad=(4, 4, 0, 0, 0, 0))
conv3d(2, 1, (4, 5, 19), 9, (3, 3, 3), pad=(1,) * 6)
conv3d(1, 3, (5, 6, 37), 10, (2, 3, 4), stride=(2, 1, 2), pad=(0, 1, 2, 0, 1, 3), dilation=(1, 2, 1))
conv3d(2, 2, (3, 4, 70), 8, (1, 2, 2), stride=(3, 5, 3), dilation=(1, 1, 2))
conv3d(2, 5, (3, 7, 9), 37, (3, 3, 3), pad=(1,) * 6, algorithm="winograd4")
conv3d(3, 17, (4, 6, 5), 18, (2, 3, 3), pad=(2, 0, 1, 0, 0, 1), dilation=(2, 1, 1), algorithm="winograd4")
conv3d(1, 20, (5, 6, 9), 6, (4, 3, 3), pad=(3, 3, 2, 2, 1, 1), dilation=(1, 2, 1), algorithm="winograd2")
conv3d(2, 6, (4, 7, 7), 33, (3, 5, 5), pad=(1, 1, 2, 2, 2, 2), algorithm="winograd2")
conv3d(2, 16, (4, 2, 9), 16, (3, 1, 3), pad=(1, 1, 0, 0, 1, 1), algorithm="winograd4")
conv3d(1, 31, (3, 4, 5), 100, (3, 3, 3), pad=(1,) * 6, algorithm="winograd4")

# n, channels in, height, width, channels out, padding, tile, kernel, dilation
for _n, _c, _h, _w, _o, _pad, _tile, _k, _dil in (
    (2, 5, 7, 9, 37, 1, 4, (3, 3), (1, 1)), (1, 16, 4, 4, 16, 1, 4, (3, 3), (1, 1)),
    (2, 40, 9, 8, 20, 0, 4, (3, 3), (1, 1)), (9, 16, 5, 6, 18, 2, 4, (3, 3), (1, 1)),
    (2, 5, 7, 9, 37, 1, 2, (3, 3), (1, 1)), (1, 16, 4, 4, 16, 1, 2, (3, 3), (1, 1)),
    (2, 40, 9, 8, 20, 0, 2, (3, 3), (1, 1)), (9, 16, 15, 16, 18, 2, 2, (3, 3), (1, 1)),
    (2, 5, 13, 11, 37, 2, 4, (3, 3), (2, 3)), (1, 20, 7, 9, 6, 5, 4, (3, 3), (5, 1)),
    (2, 5, 7, 9, 37, 2, 2, (5, 5), (1, 1)), (3, 18, 12, 13, 16, 1, 2, (5, 5), (2, 2)),
    (2, 5, 1, 19, 37, 1, 4, (1, 3), (1, 1)), (4, 17, 3, 22, 9, 2, 4, (1, 3), (1, 4)),
    (2, 5, 1, 19, 37, 2, 2, (1, 5), (1, 1)), (3, 16, 2, 30, 20, 0, 2, (1, 5), (1, 3)),
    (2, 90, 5, 6, 100, 1, 4, (3, 3), (1, 1)),
):  # fmt: skip
    _ph = _pad if _k[0] > 1 else 0
    _oh, _ow = conv_out(_h, _k[0], 1, _ph, _ph, _dil[0]), conv_out(_w, _k[1], 1, _pad, _pad, _dil[1])
    _x, _y = (_n, _h, _w, _c), (_n, _oh, _ow, _o)
    _more = {
        "stride": [1, 1],
        "padding": [_ph, _ph, _pad, _pad],
        "dilation": list(_dil),
        "groups": 1,
        "layout": "nhwc",
        "algorithm": f"winograd{_tile}",
        "label": f"winograd{_tile}-{_k[0]}x{_k[1]}-p{_pad}-d{_dil[0]}{_dil[1]}",
        "tolerance": 1e-5,
    }
    case("conv2d", _x, (_o, _c, *_k), **_more)
    case("conv2d_backward_data", _y, (_o, _c, *_k), **_more, input_size=[_h, _w])
    case("conv2d_backward_weight", _x, _y, **_more, kernel=list(_k))

# Groups by Winograd's algorithm. n, groups, channels of a group in, out, height, width, kernel, tile, dilation
for _n, _g, _c, _o, _h, _w, _k, _tile, _dil in (
    (2, 3, 5, 7, 9, 8, 3, 4, 1), (9, 2, 16, 16, 12, 16, 3, 4, 1), (2, 4, 17, 40, 6, 7, 3, 4, 2),
    (1, 2, 60, 70, 5, 4, 3, 4, 1), (3, 2, 16, 33, 9, 8, 3, 2, 1), (2, 3, 20, 6, 9, 7, 5, 2, 1),
):  # fmt: skip
    _pad = _k // 2 * _dil
    _x, _y, _weight = (_n, _h, _w, _g * _c), (_n, _h, _w, _g * _o), (_g * _o, _c, _k, _k)
    _more = {
        "stride": [1, 1], "padding": [_pad] * 4, "dilation": [_dil] * 2, "groups": _g, "layout": "nhwc",
        "algorithm": f"winograd{_tile}", "label": f"winograd{_tile}-{_k}x{_k}-g{_g}-d{_dil}", "tolerance": 1e-5,
    }  # fmt: skip
    case("conv2d", _x, _weight, **_more)
    case("conv2d_backward_data", _y, _weight, **_more, input_size=[_h, _w])
    case("conv2d_backward_weight", _x, _y, **_more, kernel=[_k, _k])

# Stride 2 by Winograd's algorithm: phases of unequal size, windows that they share or do not (by the padding's parity
# and the kernel), all ways of the weights' gradient. n, channels in, height, width, channels out, kernel, padding
for _n, _c, _h, _w, _o, _k, _pad in (
    (2, 5, 9, 12, 37, 3, (1, 1, 1, 1)), (1, 16, 8, 8, 16, 3, (1, 1, 1, 1)), (3, 17, 11, 7, 9, 3, (0, 2, 1, 0)),
    (2, 30, 16, 9, 100, 3, (0, 0, 0, 1)), (13, 16, 16, 16, 20, 3, (2, 1, 1, 2)), (1, 3, 2, 1, 4, 3, (1, 1, 1, 1)),
    (2, 5, 10, 13, 37, 4, (1, 1, 1, 1)), (13, 16, 16, 15, 18, 4, (1, 2, 0, 1)), (1, 70, 6, 7, 40, 4, (2, 2, 3, 0)),
):  # fmt: skip
    _oh, _ow = conv_out(_h, _k, 2, *_pad[:2], 1), conv_out(_w, _k, 2, *_pad[2:], 1)
    _x, _y = (_n, _h, _w, _c), (_n, _oh, _ow, _o)
    _more = {
        "stride": [2, 2], "padding": list(_pad), "dilation": [1, 1], "groups": 1, "layout": "nhwc",
        "algorithm": "winograd4", "label": f"winograd4-{_k}x{_k}-s2-p{_pad}", "tolerance": 1e-5,
    }  # fmt: skip
    case("conv2d", _x, (_o, _c, _k, _k), **_more)
    case("conv2d_backward_data", _y, (_o, _c, _k, _k), **_more, input_size=[_h, _w])
    case("conv2d_backward_weight", _x, _y, **_more, kernel=[_k, _k])

# Products with an epilogue: bias, residual, scale, two results. Shapes for each way through the kernels.
_CODE = "t0=add(x0,x1);t1=mul(t0,x2);t2=add(t1,x3);t3=relu(t2);out t3,t0"
for _m, _n, _k, _tb in (
    (130, 70, 130, 1), (100, 1100, 40, 0), (5, 40, 9, 1), (33, 10, 64, 1), (1, 130, 20, 1), (40, 1, 30, 0),
    (4, 3, 0, 0), (20, 1001, 260, 0), (50, 600, 420, 0), (130, 270, 520, 1),
    (2, 300, 300, 0), (3, 70, 300, 1),
):  # fmt: skip
    _w = (_n, _k) if _tb else (_k, _n)
    case(
        "matmul_fused", (_m, _k), _w, (_n,), (), (_m, _n), transpose_a=0, transpose_b=_tb, code=_CODE, tolerance=1e-5,
        label="epilogue",
    )  # fmt: skip
    # What the product's own tile adds: a bias, then perhaps a relu.
    for _code in ("t0=add(x0,x1);out t0", "t0=add(x1,x0);t1=relu(t0);out t1"):
        case(
            "matmul_fused", (_m, _k), _w, (_n,), transpose_a=0, transpose_b=_tb, code=_code, tolerance=1e-5,
            label=f"bias{len(_code)}",
        )  # fmt: skip
for _code in ("t0=add(x0,x1);out t0,t0", "t0=add(x1,x1);out t0", "t0=add(x0,x1);t1=relu(x0);out t1"):  # almost that
    case("matmul_fused", (20, 9), (9, 33), (33,), transpose_a=0, transpose_b=0, code=_code, label=f"almost{len(_code)}")
case("matmul_fused", (2, 9, 5), (2, 5, 33), (33,), transpose_a=0, transpose_b=0, code="t0=add(x0,x1);out t0", label="b")
case("matmul_fused", (3, 4, 5), (3, 5, 6), transpose_a=0, transpose_b=0, code="t0=tanh(x0);out t0", tolerance=1e-5)
for _n, _c, _h, _w, _o, _k, _groups, _stride, _algorithm in (
    (2, 20, 9, 7, 24, 3, 1, 1, "direct"), (1, 3, 9, 7, 20, 3, 1, 2, "direct"), (2, 24, 9, 7, 24, 3, 24, 1, "direct"),
    (2, 32, 5, 6, 40, 1, 2, 1, "direct"), (1, 16, 5, 6, 150, 3, 1, 2, "direct"),
    (2, 20, 9, 7, 37, 3, 1, 1, "winograd4"), (9, 16, 16, 18, 20, 3, 1, 1, "winograd4"),
    (2, 20, 9, 7, 37, 3, 1, 1, "winograd2"), (9, 16, 16, 18, 20, 3, 1, 1, "winograd2"),
    (2, 20, 9, 14, 37, 3, 1, 2, "winograd4"), (13, 16, 16, 18, 20, 3, 1, 2, "winograd4"),
    (2, 32, 9, 7, 40, 3, 2, 1, "winograd4"), (2, 32, 9, 10, 40, 3, 2, 1, "winograd2"),
):  # fmt: skip
    _pad = _k // 2
    _oh, _ow = ((_s + 2 * _pad - _k) // _stride + 1 for _s in (_h, _w))
    _more = {
        "stride": [_stride] * 2, "padding": [_pad] * 4, "dilation": [1, 1], "groups": _groups, "layout": "nhwc",
        "algorithm": _algorithm, "code": _CODE, "label": f"epilogue-{_algorithm}", "tolerance": 1e-5,
    }  # fmt: skip
    _x, _y = (_n, _h, _w, _c), (_n, _oh, _ow, _o)
    _weight = (_o, _c // _groups, _k, _k)
    case("conv2d_fused", _x, _weight, (_o,), (1,), _y, **_more)
for _algorithm in ("direct", "winograd4"):
    case(
        "conv3d_fused", (2, 3, 4, 5, 20), (24, 20, 2, 3, 3), (24,), (1,), (2, 2, 4, 5, 24), stride=[1] * 3,
        padding=[0, 0, 1, 1, 1, 1], dilation=[1] * 3, groups=1, layout="ndhwc", algorithm=_algorithm, code=_CODE,
        label=f"epilogue-{_algorithm}", tolerance=1e-5,
    )  # fmt: skip

for _op, _x, _size, _more in (
    ("layer_norm", (6, 33), (33,), {"dims": 1}), ("rms_norm", (500, 40), (40,), {"dims": 1}),
    ("batch_norm", (7, 5, 6, 37), (37,), {"axis": 3}), ("batch_norm", (3, 20, 5, 7), (20,), {"axis": 1}),
    ("group_norm", (3, 6, 5, 7), (6,), {"groups": 2}),
):  # fmt: skip
    _own = (_x, _size) if _op == "rms_norm" else (_x, _size, _size)
    case(f"{_op}_fused", *_own, (_x[-1],), (), _x, **_more, eps=1e-5, code=_CODE, tolerance=3e-5)

# Pooling.
for _layout in ("nchw", "nhwc"):
    for _shape, _k, _s, _p, _ceil in (
        ((2, 3, 6, 8), 2, 2, 0, 0),
        ((2, 3, 7, 7), 3, 2, 1, 0),
        ((1, 17, 7, 6), 3, 1, 1, 0),
        ((2, 3, 7, 8), 2, 2, 0, 1),
    ):
        _n, _c, _h, _w = _shape
        _x = _shape if _layout == "nchw" else (_n, _h, _w, _c)
        _common = {"kernel": [_k, _k], "stride": [_s, _s], "padding": [_p] * 4, "ceil": _ceil, "layout": _layout}
        case(
            "max_pool2d",
            Arg(_x, "distinct"),
            **_common,
            dilation=[1, 1],
            grad=(0,),
            label=f"{_layout}-k{_k}s{_s}c{_ceil}",
        )
        case("avg_pool2d", _x, **_common, count_include_pad=1, grad=(0,), label=f"{_layout}-k{_k}s{_s}c{_ceil}")
    _y, _xs = ((2, 3, 4, 4), (2, 3, 8, 8)) if _layout == "nchw" else ((2, 4, 4, 3), (2, 8, 8, 3))
    case(
        "max_pool2d_backward",
        _y,
        Arg(_y, "index", 64, "i32"),
        input_size=[8, 8],
        layout=_layout,
        grad=(0,),
        label=_layout,
    )
    case("max_pool2d_gather", _xs, Arg(_y, "index", 64, "i32"), layout=_layout, grad=(0,), label=_layout)
    case(
        "avg_pool2d_backward",
        _y,
        kernel=[2, 2],
        stride=[2, 2],
        padding=[0] * 4,
        ceil=0,
        count_include_pad=1,
        input_size=[8, 8],
        layout=_layout,
        grad=(0,),
        label=_layout,
    )


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# Rows.
for _d in (10, 65, 1, 300):
    case("softmax", (6, _d), expect=softmax, grad=(0,), tolerance=4e-6)
    case("log_softmax", (6, _d), expect=lambda x: np.log(softmax(x)), grad=(0,), tolerance=4e-6)
    case(
        "softmax_backward",
        Arg((6, _d), "positive"),
        (6, _d),
        grad=(0, 1),
        tolerance=1e-5,
        expect=lambda y, g: y * (g - (g * y).sum(-1, keepdims=True)),
    )
    case(
        "log_softmax_backward",
        (6, _d),
        (6, _d),
        grad=(0, 1),
        tolerance=1e-5,
        expect=lambda y, g: g - np.exp(y) * g.sum(-1, keepdims=True),
    )
    case("layer_norm", (6, _d), (_d,), (_d,), dims=1, eps=1e-5, grad=(0, 1, 2) if _d > 1 else (), tolerance=3e-5)
    case(
        "layer_norm_backward",
        (6, _d),
        (6, _d),
        (_d,),
        (6,),
        Arg((6,), "positive"),
        dims=1,
        grad=(0, 1, 2, 3, 4),
        tolerance=3e-5,
    )
    case("rms_norm", (6, _d), (_d,), dims=1, eps=1e-5, grad=(0, 1) if _d > 1 else (), tolerance=3e-5)
    case(
        "rms_norm_backward", (6, _d), (6, _d), (_d,), Arg((6,), "positive"), dims=1, grad=(0, 1, 2, 3), tolerance=3e-5
    )  # fmt: skip
case("rms_norm", (3, 4, 6), (4, 6), dims=2, eps=1e-5, grad=(0, 1), tolerance=1e-5)
case("rms_norm", (1300, 24), (24,), dims=1, eps=1e-5)
case("layer_norm", (3, 4, 6), (4, 6), (4, 6), dims=2, eps=1e-5, grad=(0, 1, 2), tolerance=1e-5)
for _shape, _g in (((3, 6, 5, 7), 2), ((2, 4, 19), 4), ((5, 6), 3), ((1, 8, 4, 4), 1)):
    _c, _s = (_shape[1],), (_shape[0], _g)
    case("group_norm", _shape, _c, _c, groups=_g, eps=1e-5, grad=(0, 1, 2), tolerance=3e-5)
    case(
        "group_norm_backward", _shape, _shape, _c, _s, Arg(_s, "positive"), groups=_g, grad=(0, 1, 2, 3, 4),
        tolerance=3e-5,
    )  # fmt: skip
case("group_norm", (0, 4, 3), (4,), (4,), groups=2, eps=1e-5)
for _smooth in (0.0, 0.1):
    _more = {"label_smoothing": _smooth, "ignore_index": -100, "label": f"s{_smooth}"}
    case("cross_entropy", (7, 10), Arg((7,), "index", 10, "i64"), **_more, grad=(0,), tolerance=4e-6)
    case(
        "cross_entropy_backward",
        (7, 10),
        Arg((7,), "index", 10, "i64"),
        Arg((7,), "positive"),
        (7,),
        **_more,
        grad=(0, 2, 3),
        tolerance=1e-5,
    )
for _t, _n, _c, _s, _blank in ((6, 3, 5, 3, 0), (9, 2, 4, 2, 3), (4, 2, 3, 0, 0), (5, 0, 3, 2, 0)):
    _rows = (
        Arg((_n, _s), "index", _c, "i64"), Arg((_n,), f"={_t}", 0, "i64"), Arg((_n,), f"={_s}", 0, "i64"),
    )  # fmt: skip
    case("ctc", (_t, _n, _c), *_rows, blank=_blank, grad=(0,) if _n else (), second=False, tolerance=1e-5)
    case("ctc_backward", (_n,), (_t, _n, _c), *_rows, blank=_blank, tolerance=1e-4)
for _shape, _axis in (((8, 5), 1), ((4, 3, 5, 6), 1), ((4, 5, 6, 3), 3), ((4, 9, 9, 20), 3), ((11, 4, 9, 7), 1)):
    _c = _shape[_axis]
    case("batch_norm", _shape, (_c,), (_c,), axis=_axis, eps=1e-5, grad=(0, 1, 2), tolerance=2e-5, label=f"a{_axis}")
    case(
        "batch_norm_backward",
        _shape,
        _shape,
        (_c,),
        (_c,),
        Arg((_c,), "positive"),
        axis=_axis,
        eps=1e-5,
        grad=(0, 1, 2, 3, 4),
        tolerance=2e-5,
        label=f"a{_axis}",
    )
for _b, _h, _t, _s, _d, _causal, _mask in (
    (2, 2, 5, 5, 4, 0, None),
    (1, 2, 9, 9, 16, 1, None),
    (1, 1, 4, 7, 8, 1, None),
    (1, 2, 40, 40, 32, 1, None),
    (1, 1, 33, 70, 24, 0, None),
    (1, 1, 3, 3, 1, 1, None),
    (1, 2, 50, 50, 128, 1, None),
    (2, 1, 17, 33, 64, 0, None),
    (2, 2, 5, 6, 4, 0, (2, 2, 5, 6)),
    (2, 2, 5, 6, 4, 0, (1, 1, 5, 6)),
    (2, 3, 6, 6, 5, 1, (1, 3, 6, 6)),
    (2, 2, 35, 40, 24, 0, (2, 1, 1, 40)),
    (2, 2, 40, 40, 16, 1, (2, 1, 40, 40)),
    (2, 0, 3, 3, 4, 0, (2, 1, 3, 3)),
    (0, 2, 3, 3, 4, 1, None),
    (1, 2, 0, 3, 4, 0, None),
    (1, 2, 40, 3, 0, 0, None),
):
    _q, _kv = (_b, _h, _t, _d), (_b, _h, _s, _d)
    _more = {"scale": 1 / math.sqrt(max(1, _d)), "causal": _causal, "label": f"c{_causal}"}
    _small = 0 < _b * _h * _t * _s < 200
    for _fill in ("normal", "mask") if _mask else ("",):
        _masks = (Arg(_mask, _fill),) if _mask else ()
        case(
            "attention", _q, _kv, _kv, *_masks, **_more, tolerance=1e-5,
            grad=() if not _small else (0, 1, 2, 3) if _fill == "normal" else (0, 1, 2),
        )  # fmt: skip
        case(
            "attention_backward", _q, _q, _kv, _kv, _q, Arg(_q[:3], "=3"), *_masks, **_more, tolerance=2e-5,
            grad=(0, 1, 2, 3) if _small else (),
        )  # fmt: skip


# The same where the heads lie in other tensors: (batch, tokens, 3, heads, width), and the gradients in one like it; or
# keys and values of a tensor by themselves. (batch, heads, queries, keys, width, causal, mask)
for _b, _h, _t, _s, _d, _causal, _mask in (
    (2, 3, 5, 5, 4, 1, None),
    (1, 2, 4, 4, 3, 0, (1, 1, 4, 4)),
    (2, 2, 40, 40, 24, 1, None),
    (3, 4, 33, 33, 32, 0, (3, 1, 1, 33)),
    (2, 2, 3, 7, 5, 0, None),
    (1, 3, 20, 50, 17, 1, None),
):
    _small = _b * _h * _t * _s < 200
    _masks = (Arg(_mask),) if _mask else ()
    _more = {"scale": 1 / math.sqrt(_d), "causal": _causal, "sizes": [_b, _h, _t, _s, _d], "label": f"c{_causal}"}
    if _t == _s:
        _q = _k = (_b, _t, 3, _h, _d)
        _three = [[i * _h * _d, _t * 3 * _h * _d, _d, 3 * _h * _d] for i in range(3)]
        _places = {"into": [0, 0, 0], "shape0": list(_q)}
    else:
        _q, _k = (_b, _t, _h, _d), (_b, _s, 2, _h, _d)
        _three = [[0, _t * _h * _d, _d, _h * _d]]
        _three += [[i * _h * _d, _s * 2 * _h * _d, _d, 2 * _h * _d] for i in range(2)]
        _places = {"into": [0, 1, 1], "shape0": list(_q), "shape1": list(_k)}
    _more |= {"q": _three[0], "k": _three[1], "v": _three[2]}
    _y, _out = (_b, _t, _h * _d), [0, _t * _h * _d, _d, _h * _d]
    case(
        "attention_strided", _q, _k, _k, *_masks, **_more, out=_out, shape0=list(_y), tolerance=1e-5,
        grad=tuple(range(3 + len(_masks))) if _small else (),
    )  # fmt: skip
    _places |= {"dq": _three[0], "dk": _three[1], "dv": _three[2]}
    case(
        "attention_strided_backward", _y, _q, _k, _k, _y, Arg((_b, _h, _t), "=3"), *_masks,
        **_more, **_places, dout=_out, out=_out, tolerance=2e-5, grad=(0, 1, 2, 3) if _small else (),
    )  # fmt: skip


# Recurrent layers: (steps, batch, hidden, reverse).
def recur(x: Array, h: Array, reverse: int, step: Callable[..., Any]) -> list[Array]:
    """`step(x_t, *states)` over the sequence: the states stacked in the order of time."""
    states, seen = h, []
    for x_t in x[::-1] if reverse else x:
        states = step(x_t, *states)
        seen.append(states)
    return [np.stack(s[::-1] if reverse else s) for s in zip(*seen, strict=True)]


def lstm(x: Array, h0: Array, c0: Array, w: Array, reverse: int) -> tuple[Array, ...]:
    def step(x_t: Array, h: Array, c: Array, _: Any = None) -> tuple[Array, ...]:
        i, f, g, o = np.split(x_t + h @ w.T, 4, -1)
        gates = np.concatenate([sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)], -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c, gates

    y, c, gates = recur(x, (h0, c0), reverse, step)
    end = 0 if reverse else -1
    return y, y[end], c[end], gates, c


def gru(x: Array, h0: Array, w: Array, b_n: Array, reverse: int) -> tuple[Array, ...]:
    def step(x_t: Array, h: Array, *_: Any) -> tuple[Array, ...]:
        size = h.shape[-1]
        joint = sigmoid(x_t[:, : 2 * size] + h @ w[: 2 * size].T)
        r, z = np.split(joint, 2, -1)
        p = h @ w[2 * size :].T + b_n
        n = np.tanh(x_t[:, 2 * size :] + r * p)
        return (1 - z) * n + z * h, np.concatenate([joint, n], -1), p

    y, gates, p = recur(x, (h0,), reverse, step)
    return y, y[0 if reverse else -1], gates, p


def rnn(x: Array, h0: Array, w: Array, reverse: int, kind: str) -> tuple[Array, ...]:
    act = np.tanh if kind == "tanh" else lambda a: np.maximum(a, 0)
    (y,) = recur(x, (h0,), reverse, lambda x_t, h: (act(x_t + h @ w.T),))
    return y, y[0 if reverse else -1]


for _t, _b, _h, _r in ((3, 2, 3, 0), (4, 1, 5, 1), (1, 3, 4, 0), (5, 33, 17, 1), (3, 1, 70, 0), (4, 18, 40, 0)):
    _small = _b * _h < 20
    _hs, _y, _l = (_b, _h), (_t, _b, _h), f"r{_r}"
    case(
        "lstm",
        (_t, _b, 4 * _h),
        _hs,
        _hs,
        (4 * _h, _h),
        reverse=_r,
        label=_l,
        grad=(0, 1, 2, 3) if _small else (),
        second=False,
        outputs=3,
        tolerance=1e-4,
        expect=lambda x, h, c, w, r=_r: lstm(x, h, c, w, r),
    )
    case(
        "lstm_backward",
        _y,
        _hs,
        _hs,
        _hs,
        _hs,
        Arg((4 * _h, _h), "unit"),
        _y,
        Arg((_t, _b, 4 * _h), "unit"),
        _y,
        reverse=_r,
        label=_l,
        tolerance=1e-4,
    )
    case(
        "gru",
        (_t, _b, 3 * _h),
        _hs,
        (3 * _h, _h),
        (_h,),
        reverse=_r,
        label=_l,
        grad=(0, 1, 2, 3) if _small else (),
        second=False,
        outputs=2,
        tolerance=1e-4,
        expect=lambda x, h, w, b, r=_r: gru(x, h, w, b, r),
    )
    case(
        "gru_backward",
        _y,
        _hs,
        _hs,
        Arg((3 * _h, _h), "unit"),
        _y,
        Arg((_t, _b, 3 * _h), "unit"),
        _y,
        reverse=_r,
        label=_l,
        tolerance=1e-4,
    )
    for _k in ("tanh", "relu"):
        case(
            "rnn",
            _y,
            _hs,
            (_h, _h),
            reverse=_r,
            nonlinearity=_k,
            label=f"{_l}-{_k}",
            second=False,
            grad=(0, 1, 2) if _small else (),
            tolerance=1e-4,
            expect=lambda x, h, w, r=_r, k=_k: rnn(x, h, w, r, k),
        )
        case(
            "rnn_backward",
            _y,
            _hs,
            _hs,
            Arg((_h, _h), "unit"),
            _y,
            reverse=_r,
            nonlinearity=_k,
            label=f"{_l}-{_k}",
            tolerance=1e-4,
        )
for _t, _b in ((0, 2), (2, 0)):
    _hs, _y = (_b, 3), (_t, _b, 3)
    case("lstm", (_t, _b, 12), _hs, _hs, (12, 3), label="empty")
    case("lstm_backward", _y, _hs, _hs, _hs, _hs, (12, 3), _y, (_t, _b, 12), _y, label="empty")
    case("gru", (_t, _b, 9), _hs, (9, 3), (3,), label="empty")
    case("gru_backward", _y, _hs, _hs, (9, 3), _y, (_t, _b, 9), _y, label="empty")

# Indexing.
case("take", (9, 5), Arg((4, 3), "index", 9, "i64"), expect=lambda x, i: x[i], grad=(0,))
case("take", (9,), Arg((6,), "index", 9, "i32"), expect=lambda x, i: x[i], grad=(0,), label="i32")


def scatter_rows(dy: Array, i: Array, size: int) -> Array:
    out = np.zeros((size, *dy.shape[i.ndim :]))
    np.add.at(out, i, dy)
    return out


case(
    "scatter_add",
    (4, 3, 33),
    Arg((4, 3), "index", 9, "i64"),
    size=9,
    expect=lambda g, i: scatter_rows(g, i, 9),
    grad=(0,),
)
case(
    "take_along_axis",
    (5, 9),
    Arg((5, 4), "index", 9, "i64"),
    axis=1,
    grad=(0,),
    expect=lambda x, i: np.take_along_axis(x, i, 1),
)
case("scatter_along_axis", (5, 4), Arg((5, 4), "index", 9, "i64"), axis=1, size=9, grad=(0,))

# Optimizers.
_p = (3, 21)
_s = [Arg((), "=0.01"), Arg((), "=3", dtype="i64")]
case("sgd_plain_update", _p, _p, Arg((), "=0.1"), weight_decay=0.01, expect=lambda p, g, lr: p - lr * (g + 0.01 * p))
for _nesterov in (0, 1):
    case(
        "sgd_update",
        _p,
        _p,
        _p,
        *_s,
        momentum=0.9,
        dampening=0.0,
        weight_decay=0.01,
        nesterov=_nesterov,
        label=f"n{_nesterov}",
    )
for _decoupled in (0, 1):
    case(
        "adam_update",
        _p,
        _p,
        _p,
        Arg(_p, "positive"),
        *_s,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        weight_decay=0.01,
        decoupled=_decoupled,
        label=f"d{_decoupled}",
    )
