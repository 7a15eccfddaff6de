"""CTCLoss against PyTorch: values and gradients, rows of different lengths, impossible rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 4, 6)).astype(np.float32)
LABELS = np.array([[1, 2, 2, 3, 4], [4, 4, 4, 1, 1], [3, 1, 2, 0, 0], [2, 2, 2, 0, 0]])
STEPS, COUNTS = np.array([12, 10, 9, 4]), np.array([5, 3, 1, 3])  # the last: three equal labels need five steps


def both(reduction: str, **options: Any) -> tuple[list[Any], list[Any]]:
    labels = options.pop("labels", LABELS)

    def ours(x: dl.Tensor) -> dl.Tensor:
        y = nn.CTCLoss(reduction=reduction, **options)(nn.functional.log_softmax(x, -1), labels, STEPS, COUNTS)
        return y.sum()

    value, gradient = dl.value_and_grad(ours)(dl.tensor(X))
    x = torch.tensor(X, requires_grad=True)
    loss = torch.nn.CTCLoss(reduction=reduction, **options)
    want = loss(torch.log_softmax(x, -1), torch.tensor(labels), torch.tensor(STEPS), torch.tensor(COUNTS)).sum()
    want.backward()
    assert x.grad is not None
    return [np.asarray(value), np.asarray(gradient)], [want.detach().numpy(), x.grad.numpy()]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("blank", [0, 5])
def test_ctc(reduction: str, blank: int) -> None:
    for ours, theirs in zip(*both(reduction, blank=blank, zero_infinity=True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_labels_one_after_the_other() -> None:
    flat = np.concatenate([row[:n] for row, n in zip(LABELS, COUNTS, strict=True)])
    for ours, theirs in zip(*both("mean", labels=flat, zero_infinity=True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_an_impossible_row_is_infinite() -> None:
    logp = nn.functional.log_softmax(dl.tensor(X), -1)
    loss = np.asarray(nn.functional.ctc_loss(logp, LABELS, STEPS, COUNTS, reduction="none"))
    assert np.isinf(loss).tolist() == [False, False, False, True]


def test_wrong_rows_are_named() -> None:
    logp = nn.functional.log_softmax(dl.tensor(X), -1)
    with pytest.raises(IndexError, match=r"label 6 at 1 of row 2 is outside \[0, 6\)"):
        nn.functional.ctc_loss(logp, np.where(np.arange(20).reshape(4, 5) == 11, 6, LABELS), STEPS, [5, 3, 2, 3])
    with pytest.raises(IndexError, match="row 1 cannot have 13 steps of 12"):
        nn.functional.ctc_loss(logp, LABELS, [12, 13, 9, 4], COUNTS)
