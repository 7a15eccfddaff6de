"""A step that has run once allocates nothing more: everything lies in the plan's arena."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core, nn, optim

from .zoo import ZOO, Entry


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_steps_over_data_in_memory_allocate_nothing(entry: Entry) -> None:
    model = entry.build()
    step = dl.train_step(model, optim.AdamW(lr=1e-3))(lambda x, y: entry.loss(model(x), y))
    rows, batch = 8, 4
    cores = [_core.Tensor.from_numpy(c) for c in entry.batch(rows, np.random.default_rng(0))]
    order = _core.Tensor.from_numpy(np.arange(rows * 8, dtype=np.int64) % rows)
    counts = []
    for steps in (1, 1, 2, rows * 8 // batch):
        before = _core.allocation_count()
        step.run_batches(cores, order, batch, 0, steps, 1e9)
        counts.append(_core.allocation_count() - before)
    # What a call gives back and takes in is allocated once a call, whatever the number of steps.
    assert counts[1] == counts[2] == counts[3]


def test_a_frozen_program_allocates_its_result_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(784, 3))
    x = np.zeros((5, 1, 7, 7), np.float32)
    plan = dl.freeze(model, example=x)._plan(5)
    inputs = [_core.Tensor.from_numpy(x)]
    plan.run(inputs)
    before = _core.allocation_count()
    outputs = plan.run(inputs)
    assert _core.allocation_count() - before == len(outputs)
