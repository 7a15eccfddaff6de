"""The seam between ops and kernels: a library compiled here adds a kernel, and it is the one that runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dlcore
from dlcore import _core

SOURCE = Path(__file__).parents[1] / "backend/toy_backend.cpp"


def test_a_loaded_library_serves_an_op(tmp_path: Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    installed = Path(dlcore.__file__).parent / "include"
    headers = installed if installed.exists() else Path(__file__).parents[2] / "csrc"
    library = tmp_path / "toy.so"
    subprocess.run(
        [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", f"-I{headers}", str(SOURCE), "-o", str(library)], check=True
    )
    script = """
import sys, numpy as np
from dlcore import _core
_core.load_backend(sys.argv[1])
assert _core.backends("relu")[0] == "toy", _core.backends("relu")
g = _core.Graph()
x = g.input("x", "f32", [5])
g.output("y", g.emit("relu", [x])[0])
p = _core.Program(g, passes=[])
a = _core.Tensor.from_numpy(np.array([-1, 2, -3, 4, 0], np.float32))
assert p.profile([a])[0]["backend"] == "toy"
assert p.run([a])[0].numpy().tolist() == [0, 2, 0, 4, 0]
double = _core.Tensor.from_numpy(np.array([-1.0]))  # f64 is not served: ref runs
assert _core.run_op("relu", [double])[0].numpy().tolist() == [0]
"""
    # In a process of its own: a backend cannot be unloaded.
    subprocess.run([sys.executable, "-c", script, str(library)], check=True)


def test_a_library_that_is_none_is_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.so"
    bad.write_bytes(b"not a library")
    with pytest.raises(OSError, match=r"cannot load the backend .*bad\.so"):
        _core.load_backend(str(bad))
