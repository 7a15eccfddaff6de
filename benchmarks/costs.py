"""Time to the first step and peak memory of a training step, each framework in a process of its own.

python benchmarks/costs.py MODEL FRAMEWORK      prints them as JSON; train.py --costs makes the table
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS = 5


def resident() -> int:
    """The most memory this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(model_name: str, framework: str) -> dict[str, float]:
    import numpy as np

    sys.path.insert(0, str(Path(__file__).parent))
    from models import MODELS

    model = next(m for m in MODELS if m.name == model_name)
    x, y = model.batch(np.random.default_rng(0))
    if framework == "torch":
        import torch_models

        imported, begin = resident(), time.perf_counter()
        step = torch_models.training_step(torch_models.build(model_name), x, y)
    else:
        from train import Ours

        imported, begin = resident(), time.perf_counter()
        ours = Ours(model, None, x, y)
        step = lambda: ours(1)  # noqa: E731
    step()
    first = time.perf_counter() - begin
    for _ in range(STEPS - 1):
        step()
    return {"first": first, "imported": imported, "peak": resident()}


def costs(models: list[str], frameworks: list[str]) -> tuple[Any, list[dict[str, Any]]]:
    from report import Table
    from timing import show

    rows = []
    columns = [f"{f}: {what}" for f in frameworks for what in ("first step", "peak memory", "of it by the step")]
    table = Table("model", *columns)
    for name in models:
        cells = []
        for framework in frameworks:
            out = subprocess.run(
                [sys.executable, __file__, name, framework], capture_output=True, text=True, check=True
            )
            found = json.loads(out.stdout.splitlines()[-1])
            rows.append({"model": name, "framework": framework, **found})
            cells += [
                show(found["first"]),
                *(f"{b / 1e6:.0f} MB" for b in (found["peak"], found["peak"] - found["imported"])),
            ]
        table.row(name, *cells)
    return table, rows


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:3])))
