"""Each layer and loss against PyTorch, from the same parameters: outputs, gradients of input and parameters, state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn

torch = pytest.importorskip("torch")
tnn = torch.nn
RNG = np.random.default_rng(0)


def close(got: Any, want: Any, what: str = "", tolerance: float = 2e-5) -> None:
    got, want = np.asarray(got), want.detach().numpy()
    assert got.shape == want.shape, what
    scale = max(1.0, float(np.abs(want).max())) if want.size else 1.0
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def compare(ours: nn.Module, theirs: Any, inputs: list[Any], training: bool = True, **kwargs: Any) -> None:
    """Outputs, gradients by float inputs and by parameters, and buffers after the step."""
    for p in theirs.parameters():  # away from zeros and ones
        with torch.no_grad():
            p.add_(torch.tensor(RNG.standard_normal(tuple(p.shape)) * 0.1, dtype=p.dtype))
    ours.load_state_dict(theirs.state_dict())
    theirs.train(training)
    tensors = [torch.tensor(x) for x in inputs]
    floats = [i for i, t in enumerate(tensors) if t.is_floating_point()]
    for i in floats:
        tensors[i].requires_grad_()
    tkwargs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    want = theirs(*tensors, **tkwargs)
    want = want[0] if isinstance(want, tuple) else want
    weights = RNG.standard_normal(tuple(want.shape)).astype(np.float32)
    (want * torch.tensor(weights)).sum().backward()

    def loss(model: nn.Module, *xs: Any) -> Any:
        y = model(*xs, **kwargs)
        y = y[0] if isinstance(y, tuple) else y
        return (y * weights).sum(), y

    with dl.training(training):
        f = dl.value_and_grad(loss, argnums=(0, *[i + 1 for i in floats]), has_aux=True)
        (_, got), (by_parameter, *by_input) = f(ours, *[dl.tensor(x) for x in inputs])
    close(got, want, "output")
    for i, g in zip(floats, by_input, strict=True):
        close(g, tensors[i].grad, f"gradient of input {i}", 1e-4)
    for name, p in theirs.named_parameters():
        close(by_parameter[name], torch.zeros_like(p) if p.grad is None else p.grad, name, 1e-4)
    for name, b in theirs.named_buffers():
        close(ours.state_dict()[name], b, name)
    with dl.training(False):
        again = ours(*[dl.tensor(x) for x in inputs], **kwargs)
    theirs.eval()
    want = theirs(*tensors, **tkwargs)
    close(
        again[0] if isinstance(again, tuple) else again,
        want[0] if isinstance(want, tuple) else want,
        "eager, inference",
    )


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


IMAGE, SIGNAL, ROWS, TABLE, VOLUME = (2, 4, 9, 7), (3, 4, 11), (5, 6), (4, 3, 6), (2, 4, 5, 6, 7)
LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "linear": (lambda n: n.Linear(6, 3), TABLE),
    "linear without bias": (lambda n: n.Linear(6, 3, bias=False), ROWS),
    "conv2d": (lambda n: n.Conv2d(4, 6, 3), IMAGE),
    "conv2d, all": (lambda n: n.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), IMAGE),
    "conv2d same": (lambda n: n.Conv2d(4, 6, (4, 3), padding="same", bias=False), IMAGE),
    "conv2d depthwise": (lambda n: n.Conv2d(4, 8, 3, padding=1, groups=4), IMAGE),
    "conv3d": (lambda n: n.Conv3d(4, 6, 3, padding=1), VOLUME),
    "conv3d, all": (
        lambda n: n.Conv3d(4, 6, (2, 3, 2), stride=(1, 2, 1), padding=(1, 0, 2), dilation=(2, 1, 2), groups=2), VOLUME
    ),
    "conv3d of depth 1": (lambda n: n.Conv3d(4, 6, (1, 3, 3), padding="same", bias=False), VOLUME),
    "conv1d": (lambda n: n.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), SIGNAL),
    "conv1d same": (lambda n: n.Conv1d(4, 6, 4, padding="same"), SIGNAL),
    "transposed 2d": (lambda n: n.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "transposed 2d groups": (lambda n: n.ConvTranspose2d(4, 6, (2, 3), groups=2, dilation=2, bias=False), IMAGE),
    "transposed 1d": (lambda n: n.ConvTranspose1d(4, 6, 3, stride=2, padding=1), SIGNAL),
    "max pool 2d": (lambda n: n.MaxPool2d(3, 2, 1), IMAGE),
    "max pool 2d ceil": (lambda n: n.MaxPool2d(2, ceil_mode=True), IMAGE),
    "max pool 1d": (lambda n: n.MaxPool1d(3), SIGNAL),
    "avg pool 2d": (lambda n: n.AvgPool2d(3, 2, 1), IMAGE),
    "avg pool 2d bare": (lambda n: n.AvgPool2d((3, 2), padding=1, count_include_pad=False, ceil_mode=True), IMAGE),
    "avg pool 1d": (lambda n: n.AvgPool1d(3, 2), SIGNAL),
    "adaptive avg 1": (lambda n: n.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive avg even": (lambda n: n.AdaptiveAvgPool2d((3, 7)), IMAGE),
    "adaptive avg uneven": (lambda n: n.AdaptiveAvgPool2d((4, 3)), IMAGE),
    "adaptive avg 1d": (lambda n: n.AdaptiveAvgPool1d(4), SIGNAL),
    "adaptive max": (lambda n: n.AdaptiveMaxPool2d((4, 3)), IMAGE),
    "batch norm 1d": (lambda n: n.BatchNorm1d(6), ROWS),
    "batch norm 1d of signals": (lambda n: n.BatchNorm1d(4, momentum=0.3), SIGNAL),
    "batch norm 2d": (lambda n: n.BatchNorm2d(4), IMAGE),
    "batch norm, average": (lambda n: n.BatchNorm2d(4, momentum=None), IMAGE),
    "batch norm, bare": (lambda n: n.BatchNorm2d(4, affine=False, track_running_stats=False), IMAGE),
    "layer norm": (lambda n: n.LayerNorm(6), TABLE),
    "layer norm of two axes": (lambda n: n.LayerNorm((3, 6), eps=1e-3), TABLE),
    "layer norm, bare": (lambda n: n.LayerNorm(6, elementwise_affine=False), TABLE),
    "group norm": (lambda n: n.GroupNorm(2, 4), IMAGE),
    "instance norm": (lambda n: n.InstanceNorm2d(4), IMAGE),
    "instance norm, affine": (lambda n: n.InstanceNorm2d(4, affine=True), IMAGE),
    "rms norm": (lambda n: n.RMSNorm(6), TABLE),
    "flatten": (lambda n: n.Flatten(), IMAGE),
    "unflatten": (lambda n: n.Unflatten(1, (2, 3)), ROWS),
    "identity": (lambda n: n.Identity(), ROWS),
    "upsample": (lambda n: n.Upsample(scale_factor=2), IMAGE),
    "upsample to size": (lambda n: n.Upsample(size=(13, 5)), IMAGE),
    "zero pad": (lambda n: n.ZeroPad2d((1, 2, 0, 3)), IMAGE),
    "pixel shuffle": (lambda n: n.PixelShuffle(2), IMAGE),
    "dropout of nothing": (lambda n: n.Dropout(0.0), ROWS),
    "prelu": (lambda n: n.PReLU(), IMAGE),
    "prelu by channel": (lambda n: n.PReLU(4), IMAGE),
}  # fmt: skip
for _name, _options in {
    "ReLU": {}, "ReLU6": {}, "LeakyReLU": {"negative_slope": 0.2}, "ELU": {"alpha": 0.7}, "SELU": {}, "GELU": {},
    "SiLU": {}, "Mish": {}, "Sigmoid": {}, "LogSigmoid": {}, "Tanh": {}, "Softplus": {}, "Softsign": {}, "Hardtanh": {},
    "Hardswish": {}, "Hardsigmoid": {}, "Softmax": {"dim": 1}, "LogSoftmax": {"dim": -1},
}.items():  # fmt: skip
    LAYERS[_name] = (lambda n, name=_name, options=_options: getattr(n, name)(**options), TABLE)  # type: ignore[misc]
LAYERS["GELU tanh"] = (lambda n: n.GELU(approximate="tanh"), TABLE)
LAYERS["Softplus beta"] = (lambda n: n.Softplus(beta=2.0, threshold=3.0), TABLE)


@pytest.mark.parametrize("name", list(LAYERS))
def test_layer(name: str) -> None:
    make, shape = LAYERS[name]
    compare(make(nn), make(tnn), [f32(*shape) * 2])


def test_embedding() -> None:
    ids = RNG.integers(0, 10, (3, 5))
    compare(nn.Embedding(10, 4), tnn.Embedding(10, 4), [ids])
    compare(nn.Embedding(10, 4, padding_idx=2), tnn.Embedding(10, 4, padding_idx=2), [np.array([[2, 1], [2, 7]])])
    assert not np.asarray(nn.Embedding(10, 4, padding_idx=2).weight)[2].any()


def test_bilinear() -> None:
    compare(nn.Bilinear(3, 4, 5), tnn.Bilinear(3, 4, 5), [f32(6, 3), f32(6, 4)])


CAUSAL = np.triu(np.ones((5, 5), bool), 1)
PADDED = np.array([[False] * 5, [False, False, False, True, True]])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "masks",
    [{}, {"attn_mask": CAUSAL}, {"key_padding_mask": PADDED}, {"attn_mask": CAUSAL, "key_padding_mask": PADDED}],
)
@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(batch_first: bool, masks: dict[str, Any], need_weights: bool) -> None:
    x = f32(2, 5, 8) if batch_first else f32(5, 2, 8)
    ours, theirs = (n.MultiheadAttention(8, 2, batch_first=batch_first) for n in (nn, tnn))
    compare(ours, theirs, [x, x + 1, x - 1], need_weights=need_weights, **masks)


def test_multihead_attention_of_other_sizes() -> None:
    ours, theirs = (n.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True) for n in (nn, tnn))
    compare(ours, theirs, [f32(2, 5, 8), f32(2, 7, 6), f32(2, 7, 4)])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer(norm_first: bool, activation: str) -> None:
    options: dict[str, Any] = {"dropout": 0.0, "activation": activation, "batch_first": True, "norm_first": norm_first}

    def encoder(n: Any) -> Any:
        more = {} if n is nn else {"enable_nested_tensor": False}
        return n.TransformerEncoder(n.TransformerEncoderLayer(8, 2, 16, **options), 2, n.LayerNorm(8), **more)

    def decoder(n: Any) -> Any:
        return n.TransformerDecoder(n.TransformerDecoderLayer(8, 2, 16, **options), 2)

    compare(encoder(nn), encoder(tnn), [f32(2, 5, 8)])
    compare(encoder(nn), encoder(tnn), [f32(2, 5, 8)], mask=np.where(CAUSAL, -np.inf, 0).astype(np.float32))
    compare(decoder(nn), decoder(tnn), [f32(2, 5, 8), f32(2, 7, 8)], tgt_mask=CAUSAL)


def test_scaled_dot_product_attention() -> None:
    q, k, v = f32(2, 3, 5, 4), f32(2, 3, 5, 4), f32(2, 3, 5, 4)
    seen = RNG.random((2, 1, 5, 5)) > 0.3
    seen[..., 0] = True
    added = f32(5, 5)
    attention, want = nn.functional.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
    for options in ({}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": seen}, {"attn_mask": added}):
        theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        close(
            attention(dl.tensor(q), dl.tensor(k), dl.tensor(v), **options),
            want(*map(torch.tensor, (q, k, v)), **theirs),
        )
    short = q[:, :, :3]
    for options in ({}, {"is_causal": True}):
        close(
            attention(dl.tensor(short), dl.tensor(k), dl.tensor(v), **options),
            want(*map(torch.tensor, (short, k, v)), **options),
        )


X, Y = f32(6, 4), f32(6, 4)
CLASSES = np.array([0, 3, 1, -100, 2, 1])
CLASS_WEIGHT = np.array([0.5, 1.0, 2.0, 0.7], np.float32)
PROBABILITY = np.exp(X) / np.exp(X).sum(1, keepdims=True)
LOGP = np.log(PROBABILITY)
TARGET = np.exp(Y) / np.exp(Y).sum(1, keepdims=True)
SEGMENTS = RNG.integers(0, 4, (2, 3, 5))
LOSSES: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
    "mse": ("MSELoss", {}, [X, Y]),
    "l1": ("L1Loss", {}, [X, Y]),
    "smooth l1": ("SmoothL1Loss", {"beta": 0.5}, [X, Y]),
    "huber": ("HuberLoss", {"delta": 0.5}, [X, Y]),
    "cross entropy": ("CrossEntropyLoss", {}, [X, CLASSES]),
    "cross entropy smoothed": ("CrossEntropyLoss", {"label_smoothing": 0.2}, [X, CLASSES]),
    "cross entropy weighted": ("CrossEntropyLoss", {"weight": CLASS_WEIGHT}, [X, CLASSES]),
    "cross entropy, both": ("CrossEntropyLoss", {"weight": CLASS_WEIGHT, "label_smoothing": 0.2}, [X, CLASSES]),
    "cross entropy ignoring 1": ("CrossEntropyLoss", {"ignore_index": 1}, [X, np.array([0, 3, 1, 1, 2, 1])]),
    "cross entropy of images": ("CrossEntropyLoss", {}, [f32(2, 4, 3, 5), SEGMENTS]),
    "cross entropy, soft": ("CrossEntropyLoss", {"label_smoothing": 0.1, "weight": CLASS_WEIGHT}, [X, TARGET]),
    "nll": ("NLLLoss", {}, [LOGP, CLASSES]),
    "nll weighted": ("NLLLoss", {"weight": CLASS_WEIGHT}, [LOGP, CLASSES]),
    "bce": ("BCELoss", {}, [PROBABILITY, TARGET]),
    "bce logits": ("BCEWithLogitsLoss", {}, [X * 5, TARGET]),
    "bce logits weighted": ("BCEWithLogitsLoss", {"pos_weight": CLASS_WEIGHT, "weight": CLASS_WEIGHT}, [X, TARGET]),
    "kl": ("KLDivLoss", {}, [LOGP, TARGET]),
    "kl of logs": ("KLDivLoss", {"log_target": True}, [LOGP, np.log(TARGET)]),
    "cosine": ("CosineEmbeddingLoss", {"margin": 0.1}, [X, Y, np.array([1, -1, 1, -1, -1, 1])]),
    "triplet": ("TripletMarginLoss", {}, [X, Y, f32(6, 4)]),
    "triplet p1": ("TripletMarginLoss", {"p": 1.0, "margin": 0.3}, [X, Y, f32(6, 4)]),
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", list(LOSSES))
def test_loss(name: str, reduction: str) -> None:
    kind, options, inputs = LOSSES[name]
    ours = getattr(nn, kind)(reduction=reduction, **options)
    theirs = getattr(tnn, kind)(
        reduction=reduction, **{k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    )
    tensors = [torch.tensor(x) for x in inputs]
    tensors[0].requires_grad_()
    want = theirs(*tensors)
    want.sum().backward()

    def loss(x: Any, *rest: Any) -> Any:
        y = ours(x, *rest)
        return y.sum(), y

    (_, got), gradient = dl.value_and_grad(loss, has_aux=True)(*[dl.tensor(x) for x in inputs])
    close(got, want)
    close(gradient, tensors[0].grad, "gradient")


def test_dropout() -> None:
    dl.seed(0)
    x = dl.ones((4, 8, 50, 50))
    assert nn.Dropout(0.3)(x) is x
    with dl.training():
        y, z = nn.Dropout(0.3)(x).numpy(), nn.Dropout2d(0.5)(x).numpy()
        assert not nn.Dropout(1.0)(x).numpy().any()
    assert abs(y.mean() - 1) < 0.02
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert set(np.unique(z.mean((2, 3)))) == {0.0, 2.0}


def test_default_initialisation_is_pytorchs() -> None:
    dl.seed(0)
    torch.manual_seed(0)
    for make in (
        lambda n: n.Linear(200, 300), lambda n: n.Conv2d(16, 32, 3, groups=2), lambda n: n.ConvTranspose2d(16, 32, 3),
        lambda n: n.Embedding(100, 64), lambda n: n.MultiheadAttention(64, 4), lambda n: n.BatchNorm2d(8),
    ):  # fmt: skip
        for name, p in make(tnn).named_parameters():
            a, b = np.asarray(dict(make(nn).named_parameters())[name]), p.detach().numpy()
            assert a.shape == b.shape
            assert abs(a.std() - b.std()) <= 0.15 * b.std() + 1e-9, name
            assert abs(np.abs(a).max() - np.abs(b).max()) <= 0.35 * np.abs(b).max(), name


INITS: dict[str, dict[str, Any]] = {
    "uniform_": {"a": -2.0, "b": 1.0}, "normal_": {"mean": 1.0, "std": 2.0}, "trunc_normal_": {"std": 1.5},
    "xavier_uniform_": {"gain": 2.0}, "xavier_normal_": {}, "kaiming_uniform_": {"nonlinearity": "relu"},
    "kaiming_normal_": {"mode": "fan_out"}, "constant_": {"val": 0.3}, "orthogonal_": {"gain": 1.5},
    "zeros_": {}, "ones_": {},
}  # fmt: skip


@pytest.mark.parametrize("name", list(INITS))
def test_init(name: str) -> None:
    dl.seed(1)
    p, t = nn.Parameter(dl.zeros((64, 32, 3, 3))), torch.zeros(64, 32, 3, 3)
    options = INITS[name]
    getattr(tnn.init, name)(t, **options)
    getattr(nn.init, name)(p, *[options.pop("val")] if "val" in options else [], **options)
    a, b = p.numpy(), t.numpy()
    assert abs(a.mean() - b.mean()) < 0.03
    assert abs(a.std() - b.std()) < 0.02 * max(1, b.std())
    assert abs(a.min() - b.min()) < 0.25 * max(1, b.std()) + (2 if name in ("normal_",) else 0)
    if name == "orthogonal_":
        rows = a.reshape(64, -1)
        np.testing.assert_allclose(rows @ rows.T, 2.25 * np.eye(64), atol=1e-4)


def network(n: Any) -> Any:
    return n.Sequential(
        n.Conv2d(1, 4, 3, padding=1), n.BatchNorm2d(4), n.ReLU(), n.MaxPool2d(2), n.Flatten(), n.Linear(64, 8),
        n.LayerNorm(8), n.Linear(8, 3),
    )  # fmt: skip


def test_a_network() -> None:
    compare(network(nn), network(tnn), [f32(5, 1, 8, 8)])
    compare(network(nn), network(tnn), [f32(5, 1, 8, 8)], training=False)


def test_state_dict_moves_both_ways() -> None:
    ours, theirs = network(nn), network(tnn)
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.from_dlpack(v).clone() for k, v in state.items()})
    back = network(nn)
    back.load_state_dict(theirs.state_dict())
    for k, v in back.state_dict().items():
        assert np.array_equal(v.numpy(), state[k].numpy())


def test_safetensors(tmp_path: Path) -> None:
    import safetensors.torch

    ours, theirs = network(nn), network(tnn)
    ours.save(tmp_path / "m.safetensors")
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "m.safetensors"))
    again = network(nn)
    again.load(tmp_path / "m.safetensors")
    x = f32(2, 1, 8, 8)
    assert np.array_equal(again(dl.tensor(x)).numpy(), ours(dl.tensor(x)).numpy())
    close(ours(dl.tensor(x)), theirs.eval()(torch.tensor(x)))
