"""Norms, softmax, losses, activations, pooling, embedding, dropout and the optimizer, forward and with gradients, as
users call them: compiled functions against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from kernel_cases import RNG, Array, Case, normal, torch_call, torch_gradients
from onnx_peer import onnx_peer

import dlcore as dl
import dlcore.nn.functional as F
from dlcore import _core
from dlcore.tensor import apply


@dataclass
class Function(Case):
    """A compiled function of the arrays; with a seed, of its value and its gradients by the first `wrt` arrays."""

    body: Callable[..., Any] = F.gelu
    seed: Array | None = None
    wrt: int = 1
    random: bool = False

    def call(self, arrays: list[Array], seed: Array | None) -> Callable[[], list[_core.Tensor]]:
        tensors = [dl.tensor(a, dtype=str(a.dtype)) for a in arrays]
        if seed is None:
            program = dl.compile(self.body)
            return lambda: [program(*tensors).core]
        dy = dl.tensor(seed)

        def scalar(*args: dl.Tensor) -> tuple[dl.Tensor, dl.Tensor]:
            y = self.body(*args)
            return (y * dy).sum(), y

        both = dl.value_and_grad(scalar, tuple(range(self.wrt)), has_aux=True)
        program = dl.compile(lambda *args: (lambda value, found: [value[1], *found])(*both(*args)))
        return lambda: [t.core for t in program(*tensors)]

    def ours(self) -> Callable[[], list[_core.Tensor]]:
        return self.call(self.arrays, self.seed)

    def exact(self) -> Array | None:
        if self.random:
            return None
        wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in self.arrays]
        return self.call(wide, None)()[0].numpy()


def torch_function(name: str, *more: Any, **options: Any) -> Callable[..., Any]:
    def body(*args: Any) -> Any:
        import torch

        return getattr(torch.nn.functional, name)(*args, *more, **options)

    return body


def functions() -> Iterator[tuple[str, list[Array], int, Callable[..., Any], Callable[..., Any]]]:
    """(name, arrays, by how many of them to differentiate, ours, PyTorch's)."""
    x, gain, shift = normal(8192, 512), normal(512), normal(512)
    images, per_channel = normal(32, 64, 32, 32), normal(64)
    labels = RNG.integers(0, 512, 8192)
    table, ids = normal(50_000, 128), RNG.integers(0, 50_000, (64, 64))
    yield "softmax 8192x512", [x], 1, lambda x: dl.softmax(x, -1), torch_function("softmax", -1)
    yield "log_softmax 8192x512", [x], 1, lambda x: dl.log_softmax(x, -1), torch_function("log_softmax", -1)
    cross = dl.nn.CrossEntropyLoss(reduction="none")
    yield "cross_entropy 8192x512", [x, labels], 1, cross, torch_function("cross_entropy", reduction="none")
    yield (
        "layer_norm 8192x512", [x, gain, shift], 3, lambda x, g, b: F.layer_norm(x, 512, g, b),
        lambda x, g, b: torch_function("layer_norm", (512,), g, b)(x),
    )  # fmt: skip
    yield (
        "rms_norm 8192x512", [x, gain], 2, lambda x, g: F.rms_norm(x, 512, g),
        lambda x, g: torch_function("rms_norm", (512,), g)(x),
    )  # fmt: skip
    yield (
        "batch_norm 64@32²", [images, per_channel, per_channel], 3,
        lambda x, g, b: apply("batch_norm", (x, g, b), {"axis": 1, "eps": 1e-5})[0],
        lambda x, g, b: torch_function("batch_norm", None, None, g, b, True)(x),
    )  # fmt: skip
    yield (
        "group_norm 8 groups 64@32²", [images, per_channel, per_channel], 3, lambda x, g, b: F.group_norm(x, 8, g, b),
        lambda x, g, b: torch_function("group_norm", 8, g, b)(x),
    )  # fmt: skip
    yield "gelu 8192x512", [x], 1, F.gelu, torch_function("gelu")
    yield "gelu tanh 8192x512", [x], 1, lambda x: F.gelu(x, "tanh"), torch_function("gelu", approximate="tanh")
    yield "tanh 8192x512", [x], 1, dl.tanh, lambda x: x.tanh()
    yield "exp 8192x512", [x], 1, dl.exp, lambda x: x.exp()
    yield "add 8192x512", [x, x[::-1].copy()], 0, lambda x, y: x + y, lambda x, y: x + y
    yield "sum of rows 8192x512", [x], 0, lambda x: x.sum(1), lambda x: x.sum(1)
    yield "max_pool2d 2x2 64@32²", [images], 1, dl.nn.MaxPool2d(2), torch_function("max_pool2d", 2)
    yield "avg_pool2d 2x2 64@32²", [images], 1, dl.nn.AvgPool2d(2), torch_function("avg_pool2d", 2)
    yield "embedding 50000x128", [table, ids], 1, lambda t, i: F.embedding(i, t), lambda t, i: t[i]
    yield (
        "dropout 8192x512", [x], 1, lambda x: F.dropout(x, 0.1, True), torch_function("dropout", 0.1, True)
    )  # fmt: skip


ONNX = {
    "softmax 8192x512": ("Softmax", {"axis": -1}), "log_softmax 8192x512": ("LogSoftmax", {"axis": -1}),
    "layer_norm 8192x512": ("LayerNormalization", {"axis": -1}), "gelu 8192x512": ("Gelu", {}),
    "gelu tanh 8192x512": ("Gelu", {"approximate": "tanh"}), "tanh 8192x512": ("Tanh", {}),
    "exp 8192x512": ("Exp", {}), "add 8192x512": ("Add", {}),
    "max_pool2d 2x2 64@32²": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "avg_pool2d 2x2 64@32²": ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "embedding 50000x128": ("Gather", {"axis": 0}),
}  # fmt: skip


KINDS = {  # family: the first words of its names
    "norm": ["layer_norm", "rms_norm", "batch_norm", "group_norm"],
    "softmax": ["softmax", "log_softmax", "cross_entropy"],
    "elementwise": ["gelu", "tanh", "exp", "add", "sum"],
    "pool": ["max_pool2d", "avg_pool2d"],
    "embedding": ["embedding"],
    "dropout": ["dropout"],
}


def rows(family: str) -> Iterator[Case]:
    for name, arrays, wrt, body, peer in functions():
        if name.split()[0] not in KINDS[family]:
            continue
        moved = 2.0 * arrays[0].nbytes
        random = name.startswith("dropout")
        peers = {"torch": torch_call(peer, *arrays)}
        if name in ONNX:
            op, attrs = ONNX[name]
            peers["onnxruntime"] = onnx_peer(op, arrays, **attrs)
        yield Function(
            family, name, "", arrays, {}, bytes=moved, peers=peers, body=body,
            random=random,
        )  # fmt: skip
        if not wrt:  # the gradient computes nothing
            continue
        dy = normal(*np.shape(torch_call(peer, *arrays)()()))
        yield Function(
            family, f"{name} and gradient", "", arrays, {}, bytes=2 * moved, body=body, seed=dy, wrt=wrt,
            random=random, peers={"torch": torch_gradients(peer, arrays, dy)},
        )  # fmt: skip


class InPlace(Case):
    """The first three outputs are new values of p, m and v, which the program keeps."""

    def ours(self) -> Callable[[], list[_core.Tensor]]:
        graph = _core.Graph()
        p, g, m, v, rate, step = (_core.Tensor.from_numpy(a, copy=True) for a in self.arrays)
        kept = {"p": p, "m": m, "v": v}
        ids = {n: graph.param(n, t.dtype, t.shape) for n, t in kept.items()}
        more = [graph.input(n, t.dtype, t.shape) for n, t in (("g", g), ("rate", rate), ("step", step))]
        new = graph.emit(self.op, [ids["p"], more[0], ids["m"], ids["v"], *more[1:]], self.attrs)
        for name, value in zip(kept, new, strict=True):
            graph.update(ids[name], value)
        program = _core.Program(graph)
        for name, t in kept.items():
            program.bind(name, t)
        return lambda: [*program.run([g, rate, step]), p]


def optimizer() -> Iterator[Case]:
    p = normal(1 << 22)

    def torch() -> Callable[[], Any]:
        import torch

        tensor = torch.tensor(p, requires_grad=True)
        tensor.grad = torch.tensor(p)
        optimizer = torch.optim.AdamW([tensor], fused=True)

        def call() -> Any:
            optimizer.step()
            return tensor.detach()

        return call

    attrs = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "decoupled": 1}
    arrays = [p, p.copy(), p * np.float32(0.1), p * p, np.array(1e-3, np.float32), np.array(1)]
    yield InPlace("optimizer", "adamw 4M", "adam_update", arrays, attrs, bytes=7.0 * p.nbytes, peers={"torch": torch})


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {k: partial(rows, k) for k in KINDS}
FAMILIES["optimizer"] = optimizer
