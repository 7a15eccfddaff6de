"""Attention against PyTorch: values and gradients, with masks of each kind and head sizes of each remainder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core
from dlcore.nn import functional as F

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def seen(*shape: int) -> Any:
    """Booleans of which each row has one."""
    mask = RNG.random(shape) > 0.4
    mask[..., 0] = True
    return mask


OPTIONS: dict[str, Any] = {
    "all": lambda t, s: {},
    "causal": lambda t, s: {"is_causal": True},
    "padding": lambda t, s: {"attn_mask": seen(2, 1, 1, s)},
    "boolean": lambda t, s: {"attn_mask": seen(t, s)},
    "by head": lambda t, s: {"attn_mask": seen(2, 3, t, s)},
    "added": lambda t, s: {"attn_mask": normal(3, t, s)},
    "one for all keys": lambda t, s: {"attn_mask": normal(t, 1)},
}


def close(got: Any, want: Any, what: str) -> None:
    want = want.detach().numpy()
    np.testing.assert_allclose(np.asarray(got), want, rtol=2e-5, atol=2e-5 * max(1, np.abs(want).max()), err_msg=what)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    ("t", "s", "d"), [(64, 64, 32), (5, 5, 16), (37, 37, 24), (40, 40, 128), (17, 35, 64), (1, 9, 8)]
)
def test_against_torch(name: str, t: int, s: int, d: int) -> None:
    if name == "causal" and t != s:
        pytest.skip("PyTorch aligns the corners otherwise")
    options = OPTIONS[name](t, s)
    arrays = [normal(2, 3, n, d) for n in (t, s, s)]
    dout = normal(2, 3, t, d)
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    more = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    want = torch.nn.functional.scaled_dot_product_attention(*theirs, **more)
    (want * torch.tensor(dout)).sum().backward()

    def loss(q: Any, k: Any, v: Any) -> Any:
        out = F.scaled_dot_product_attention(q, k, v, **options)
        return (out * dout).sum(), out

    (_, out), gradients = dl.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*map(dl.tensor, arrays))
    close(out, want, "output")
    for which, g, x in zip("qkv", gradients, theirs, strict=True):
        close(g, x.grad, f"gradient of {which}")


def test_gradient_of_an_added_mask() -> None:
    q, k, v, mask = normal(2, 3, 6, 4), normal(2, 3, 7, 4), normal(2, 3, 7, 4), normal(1, 3, 6, 7)
    theirs = torch.tensor(mask, requires_grad=True)
    out = torch.nn.functional.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), attn_mask=theirs)
    (out * out).sum().backward()

    def loss(mask: Any) -> Any:
        y = F.scaled_dot_product_attention(dl.tensor(q), dl.tensor(k), dl.tensor(v), mask)
        return (y * y).sum()

    close(dl.grad(loss)(dl.tensor(mask)), theirs.grad, "gradient of the mask")


def test_a_query_that_sees_nothing_is_zero_and_gives_nothing() -> None:
    q, k, v, dout = (normal(1, 1, 20, 8) for _ in range(4))
    mask = np.zeros((1, 1, 20, 20), np.float32)
    mask[0, 0, 7] = -np.inf
    attrs = {"scale": 0.3, "causal": 0}
    for backend in _core.backends("attention"):
        tensors = [_core.Tensor.from_numpy(a) for a in (q, k, v, mask)]
        out, lse = _core.run_op("attention", tensors, attrs, backend)
        assert (out.numpy()[0, 0, 7] == 0).all()
        assert lse.numpy()[0, 0, 7] == -np.inf
        back = [_core.Tensor.from_numpy(dout), *tensors[:3], out, lse, tensors[3]]
        dq, dk, dv = (t.numpy() for t in _core.run_op("attention_backward", back, attrs, backend))
        assert (dq[0, 0, 7] == 0).all()
        assert all(np.isfinite(x).all() for x in (dk, dv))


def test_a_mask_of_another_shape_is_an_error() -> None:
    q = dl.tensor(normal(2, 3, 4, 8))
    with pytest.raises(ValueError, match="mask"):
        F.scaled_dot_product_attention(q, q, q, dl.tensor(normal(3, 4)))
