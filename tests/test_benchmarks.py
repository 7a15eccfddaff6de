"""The benchmark programs run, agree with their peers where those are installed, and print what they promise."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlcore

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PLACE = str(Path(dlcore.__file__).parents[1])  # these tests may run on a build that is not installed
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PLACE}
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="the tests run without the sources")


def run(tmp_path: Path, program: str, *args: str) -> list[dict[str, object]]:
    out = tmp_path / "out.json"
    command = [sys.executable, str(BENCHMARKS / program), *args, "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.startswith("| ")
    return json.loads(out.read_text())["rows"]


def test_training_steps(tmp_path: Path) -> None:
    rows = run(tmp_path, "train.py", "mlp-small", "--threads", "1", "--seconds", "0.05", "--peers", "torch")
    assert [r["model"] for r in rows] == ["mlp-small"]
    assert 0 < rows[0]["dlcore"]["best"] <= rows[0]["dlcore"]["median"]  # type: ignore[index]


def test_costs(tmp_path: Path) -> None:
    rows = run(tmp_path, "train.py", "mlp-small", "--costs")
    assert rows[0]["framework"] == "dlcore"
    assert rows[0]["first"] > 0 and rows[0]["peak"] >= rows[0]["imported"]  # type: ignore[operator]  # noqa: PT018


def test_predictions(tmp_path: Path) -> None:
    rows = run(tmp_path, "infer.py", "mlp", "--threads", "1", "--seconds", "0.05")
    assert [r["rows"] for r in rows] == [1, 256]


def test_kernels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "kernels.png"
    options = ["--match", "8x8x8", "--seconds", "0.02", "--threads", "1,2", "--plot", str(picture)]
    rows = run(tmp_path, "kernels.py", "gemm", *options)
    assert [r["threads"] for r in rows] == [1] * 3 + [2] * 3
    assert picture.stat().st_size > 1000
    assert all(r["rate"] > 0 for r in rows)  # type: ignore[operator]


def test_an_unknown_model_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "train.py"), "no-such"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 2
    assert "known: ['mlp-small'" in done.stderr


def test_accuracy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", rng.integers(0, 256, (128, 28, 28))), ("labels-idx1", np.arange(128) % 10)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            with gzip.open(tmp_path / f"{part}-{kind}-ubyte.gz", "wb") as file:
                file.write(head + array.astype(np.uint8).tobytes())
    document = tmp_path / "document.md"
    document.write_text("<!-- accuracy-cnn:begin -->\n<!-- accuracy-cnn:end -->\n")
    options = ["--data", str(tmp_path), "--epochs", "1", "--seeds", "1", "--update", str(document)]
    command = [sys.executable, str(BENCHMARKS / "accuracy.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| cnn | 128 | 1 | mean |" in document.read_text()
