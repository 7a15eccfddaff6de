// The element-wise ops that have kernels of their own (besides copy, stop_gradient and fused).
#pragma once

namespace dlcore {

inline constexpr const char* kElementwiseNames[] = {
    "sqrt",        "rsqrt",       "reciprocal", "exp",         "expm1", "log",        "log1p",     "sin",
    "cos",         "tanh",        "sigmoid",    "erf",         "gelu",  "gelu_slope", "gelu_tanh", "silu",
    "softplus",    "floor",       "ceil",       "round",       "neg",   "abs",        "sign",      "relu",
    "isnan",       "isfinite",    "add",        "sub",         "mul",   "div",        "pow",       "maximum",
    "minimum",     "remainder",   "eq",         "ne",          "lt",    "le",         "gt",        "ge",
    "logical_not", "logical_and", "logical_or", "logical_xor", "where", "cast"};

}  // namespace dlcore
