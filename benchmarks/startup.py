"""What a user waits for before anything useful happens: import, first prediction of a program, tracing and planning.

    python benchmarks/startup.py

Each figure is the best of several new processes (imports) or runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import dlcore as dl
from dlcore import nn, optim

sys.path.insert(0, str(Path(__file__).parent))
from models import GPT, sequential
from report import Table
from train import flat_cross_entropy

FIRST_ROW = """
import sys, time
import numpy as np
import dlcore as dl
begin = time.perf_counter()
program = dl.load(sys.argv[1])
program.predict(np.zeros((1, 1, 28, 28), np.float32))
print(time.perf_counter() - begin)
"""


def fresh(code: str, *args: str, times: int = 9) -> float:
    """The least of what `code` prints, each time in a new process."""
    runs = [
        subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True, text=True)
        for _ in range(times)
    ]
    return min(float(r.stdout) for r in runs)


def import_time() -> float:
    clock = "import time, numpy; b = time.perf_counter(); import dlcore; print(time.perf_counter() - b)"
    return fresh(clock)


def first_row() -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cnn.dlcore"
        dl.freeze(sequential(nn, "cnn"), example=np.zeros((1, 1, 28, 28), np.float32)).save(path)
        return fresh(FIRST_ROW, str(path))


def first_step() -> float:
    """From the first call of a new GPT's training step to its loss."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 65, (12, 64)), rng.integers(0, 65, (12, 64))
    best = float("inf")
    for _ in range(5):
        model = GPT()

        @dl.train_step(model, optim.AdamW(lr=1e-3))
        def step(x: dl.Tensor, y: dl.Tensor, model: GPT = model) -> dl.Tensor:
            return flat_cross_entropy(model(x), y)

        begin = time.perf_counter()
        step(dl.tensor(x), dl.tensor(y)).item()
        best = min(best, time.perf_counter() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", type=Path, help="write the table into this document, between its marks")
    update = parser.parse_args().update
    core = next(Path(dl.__file__).parent.glob("_core*.so"))
    table = Table("what", "measured")
    table.row("`import dlcore` after `import numpy`", f"{import_time() * 1e3:.1f} ms")
    table.row("load a frozen CNN (28×28) and predict its first row", f"{first_row() * 1e3:.1f} ms")
    table.row("trace, plan and run the first training step of the GPT (4 layers)", f"{first_step() * 1e3:.0f} ms")
    table.row("the compiled core", f"{core.stat().st_size / 1e6:.2f} MB")

    if update:
        table.write(update, "startup")


if __name__ == "__main__":
    main()
