"""Each pass by itself, and all but each: training steps of the model zoo have the same bits as without any pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core, optim
from tests.zoo import ZOO, Entry

# `select` rounds anew and is tested by its error (tests/ops).
PASSES = [
    "simplify", "fold", "layout", "simplify", "fold", "views", "pairs", "fuse", "simplify", "recompute", "epilogue"
]  # fmt: skip
NAMES = sorted(set(PASSES))
CHOICES = {name: [name] for name in NAMES} | {f"no {name}": [p for p in PASSES if p != name] for name in NAMES}


def trained(entry: Entry, passes: list[str], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The loss of two steps and all states after them."""
    build = _core.Program
    graphs: list[Any] = []

    def program(graph: _core.Graph, **more: Any) -> _core.Program:
        graphs.append(graph)
        return build(graph, passes=passes, **more)

    with monkeypatch.context() as patch:
        patch.setattr(_core, "Program", program)
        dl.seed(1)
        model = entry.build()
        x, y = (dl.tensor(a) for a in entry.batch(6, np.random.default_rng(2)))
        step = dl.train_step(model, optim.AdamW(lr=1e-2))(lambda x, y: entry.loss(model(x), y))
        losses = [step(x, y).numpy() for _ in range(2)]
    assert graphs
    # -0 is not part of the contract between passes.
    return [(np.asarray(a) + 0.0).tobytes() for a in [*losses, *(t.numpy() for t in model.state_dict().values())]]


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_training_has_the_same_bits(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    want = trained(entry, [], monkeypatch)
    assert len(set(want)) > 3
    for name, passes in CHOICES.items():
        assert trained(entry, passes, monkeypatch) == want, name
