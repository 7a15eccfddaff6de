"""All tensor functions under one name, as they stand in `dlcore`."""

from dlcore.creation import (
    arange, asarray, eye, from_dlpack, full, full_like, is_tracing, linspace, one_hot, ones, ones_like, tensor, tril,
    triu, zeros, zeros_like,
)  # fmt: skip
from dlcore.elementwise import (
    abs, add, allclose, cast, ceil, clip, cos, divide, equal, erf, exp, expm1, floor, floor_divide, isclose, isfinite,
    isnan, log, log1p, logical_and, logical_not, logical_or, logical_xor, maximum, minimum, multiply, neg, power,
    reciprocal, relu, remainder, round, rsqrt, sigmoid, sign, silu, sin, sqrt, square, stop_gradient, subtract, tanh,
    where,
)  # fmt: skip
from dlcore.linalg import dot, einsum, matmul, outer
from dlcore.reductions import (
    all, any, argmax, argmin, argsort, cumsum, log_softmax, logsumexp, max, mean, min, norm, prod, softmax, sort, std,
    sum, topk, var,
)  # fmt: skip
from dlcore.shaping import (
    broadcast_to, chunk, concatenate, copy, expand_dims, flatten, flip, gather, moveaxis, pad, permute, repeat, reshape,
    roll, scatter_add, split, squeeze, stack, swapaxes, take, take_along_axis, tile, transpose, unsqueeze, unstack,
)  # fmt: skip

__all__ = [
    "abs", "add", "all", "allclose", "any", "arange", "argmax", "argmin", "argsort", "asarray", "broadcast_to", "cast",
    "ceil", "chunk", "clip", "concatenate", "copy", "cos", "cumsum", "divide", "dot", "einsum", "equal", "erf", "exp",
    "expand_dims", "expm1", "eye", "flatten", "flip", "floor", "floor_divide", "from_dlpack", "full", "full_like",
    "gather", "is_tracing", "isclose", "isfinite", "isnan", "linspace", "log", "log1p", "log_softmax", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logsumexp", "matmul", "max", "maximum", "mean", "min", "minimum",
    "moveaxis", "multiply", "neg", "norm", "one_hot", "ones", "ones_like", "outer", "pad", "permute", "power", "prod",
    "reciprocal", "relu", "remainder", "repeat", "reshape", "roll", "round", "rsqrt", "scatter_add", "sigmoid", "sign",
    "silu", "sin", "softmax", "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "stop_gradient", "subtract",
    "sum", "swapaxes", "take", "take_along_axis", "tanh", "tensor", "tile", "topk", "transpose", "tril", "triu",
    "unsqueeze", "unstack", "var", "where", "zeros", "zeros_like",
]  # fmt: skip
