"""Functions of each element, with NumPy's broadcasting and PyTorch's promotion of dtypes."""

from __future__ import annotations

from collections.abc import Callable

from dlcore import dtype
from dlcore.errors import trace_error
from dlcore.tensor import Tensor, TensorLike, apply1, as_tensor, binary, cast_to, operands, unary


def _as_float(x: TensorLike) -> Tensor:
    t = as_tensor(x)
    return t if t.dtype.is_float else cast_to(t, dtype.float32)


def _float_function(op: str, text: str) -> Callable[[TensorLike], Tensor]:
    def function(x: TensorLike) -> Tensor:
        return apply1(op, (_as_float(x),))

    function.__name__ = function.__qualname__ = op
    function.__doc__ = text + " Integers become float32."
    return function


sqrt = _float_function("sqrt", "Square root.")
rsqrt = _float_function("rsqrt", "1 / sqrt(x).")
reciprocal = _float_function("reciprocal", "1 / x.")
exp = _float_function("exp", "e to the power of x.")
expm1 = _float_function("expm1", "exp(x) - 1, exact near 0.")
log = _float_function("log", "Natural logarithm.")
log1p = _float_function("log1p", "log(1 + x), exact near 0.")
sin = _float_function("sin", "Sine of radians.")
cos = _float_function("cos", "Cosine of radians.")
tanh = _float_function("tanh", "Hyperbolic tangent.")
sigmoid = _float_function("sigmoid", "1 / (1 + exp(-x)).")
erf = _float_function("erf", "The error function.")
silu = _float_function("silu", "x · sigmoid(x).")
floor = _float_function("floor", "The largest integer not above x.")
ceil = _float_function("ceil", "The smallest integer not below x.")
round = _float_function("round", "The nearest integer, halves to even.")
isnan = _float_function("isnan", "Whether each element is not a number.")
isfinite = _float_function("isfinite", "Whether each element is neither infinite nor NaN.")


def neg(x: TensorLike) -> Tensor:
    return unary("neg", x)


def abs(x: TensorLike) -> Tensor:
    """Absolute value."""
    return unary("abs", x)


def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1."""
    return unary("sign", x)


def relu(x: TensorLike) -> Tensor:
    """max(x, 0)."""
    return unary("relu", x)


def square(x: TensorLike) -> Tensor:
    t = as_tensor(x)
    return binary("mul", t, t)


def add(a: TensorLike, b: TensorLike) -> Tensor:
    return binary("add", a, b)


def subtract(a: TensorLike, b: TensorLike) -> Tensor:
    return binary("sub", a, b)


def multiply(a: TensorLike, b: TensorLike) -> Tensor:
    return binary("mul", a, b)


def divide(a: TensorLike, b: TensorLike) -> Tensor:
    """a / b; of integers in float32."""
    return apply1("div", operands((a, b), dtype.float32))


def remainder(a: TensorLike, b: TensorLike) -> Tensor:
    """a modulo b, with the sign of b."""
    return binary("remainder", a, b)


def floor_divide(a: TensorLike, b: TensorLike) -> Tensor:
    """floor(a / b); of integers exact up to 2**53."""
    x, y = operands((a, b))
    if x.dtype.is_float:
        return floor(apply1("div", (x, y)))
    exact = apply1("sub", (x, apply1("remainder", (x, y))))
    quotient = apply1("div", (cast_to(exact, dtype.float64), cast_to(y, dtype.float64)))
    return cast_to(quotient, x.dtype)


def power(a: TensorLike, b: TensorLike) -> Tensor:
    """a to the power of b; small whole exponents by multiplication."""
    if type(b) in (int, float) and isinstance(a, Tensor):
        if b == 2:
            return binary("mul", a, a)
        if b == 1:
            return a
        if b == 3:
            return binary("mul", binary("mul", a, a), a)
        if b == 0.5:
            return sqrt(a)
        if b == -1:
            return reciprocal(a)
    x, y = operands((a, b))
    if x.dtype.is_float:
        return apply1("pow", (x, y))
    wide = apply1("pow", (cast_to(x, dtype.float64), cast_to(y, dtype.float64)))
    return cast_to(wide, x.dtype)


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of each pair; NaN if either is."""
    return binary("maximum", a, b)


def minimum(a: TensorLike, b: TensorLike) -> Tensor:
    """The smaller of each pair; NaN if either is."""
    return binary("minimum", a, b)


def clip(x: TensorLike, low: TensorLike | None = None, high: TensorLike | None = None) -> Tensor:
    """x limited to [low, high]; None leaves a side open. The slope at a bound itself is 1, as in PyTorch."""
    result = as_tensor(x)
    if low is not None:
        result = _limited("lt", result, low)
    if high is not None:
        result = _limited("gt", result, high)
    return result


def _limited(beyond: str, x: Tensor, bound: TensorLike) -> Tensor:
    t, limit = operands((x, bound))
    outside = apply1(beyond, (t, limit))
    if not (type(bound) in (bool, int, float) and bound == bound):  # a bound that is no number leaves none
        outside = logical_or(outside, limit != limit)
    return where(outside, limit, t)


def logical(op: str, a: TensorLike, b: TensorLike) -> Tensor:
    x, y = (as_tensor(v) for v in (a, b))
    for t in (x, y):
        if t.dtype is not dtype.bool_:
            raise TypeError(
                f"[{op}] takes booleans, got {x.dtype} and {y.dtype}; compare first, as in (x > 0) & (y > 0)"
            )
    return apply1(op, (x, y))


def logical_and(a: TensorLike, b: TensorLike) -> Tensor:
    return logical("logical_and", a, b)


def logical_or(a: TensorLike, b: TensorLike) -> Tensor:
    return logical("logical_or", a, b)


def logical_xor(a: TensorLike, b: TensorLike) -> Tensor:
    return logical("logical_xor", a, b)


def logical_not(x: TensorLike) -> Tensor:
    t = as_tensor(x)
    if t.dtype is not dtype.bool_:
        raise TypeError(f"[logical_not] takes booleans, got {t.dtype}")
    return apply1("logical_not", (t,))


def equal(a: TensorLike, b: TensorLike) -> Tensor:
    return binary("eq", a, b)


def where(condition: TensorLike, a: TensorLike, b: TensorLike) -> Tensor:
    """a where the condition holds, else b, elementwise with broadcasting."""
    test = as_tensor(condition)
    if test.dtype is not dtype.bool_:
        raise TypeError(f"[where] the condition must be boolean, got {test.dtype}")
    return apply1("where", (test, *operands((a, b))))


def stop_gradient(x: TensorLike) -> Tensor:
    """x, a constant to differentiation."""
    return unary("stop_gradient", x)


def cast(x: TensorLike, to: object) -> Tensor:
    """x as another dtype; float to integer truncates and saturates."""
    return cast_to(as_tensor(x), dtype.as_dtype(to))


def isclose(a: TensorLike, b: TensorLike, rtol: float = 1e-5, atol: float = 1e-8) -> Tensor:
    """|a - b| <= atol + rtol·|b|."""
    return binary("le", abs(binary("sub", a, b)), abs(b) * rtol + atol)


def allclose(a: TensorLike, b: TensorLike, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether all elements are close; not while tracing."""
    close = isclose(a, b, rtol, atol)
    if close.is_traced:
        raise trace_error("allclose", "compare outside the traced function")
    return bool(close.numpy().all())
