"""The direction of the arrows between rooms, read from the #includes (docs/architecture.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"

# Each room may include itself and these.
ALLOWED = {
    "base": set(),
    "tensor": {"base"},
    "graph": {"tensor", "base"},
    "ops": {"graph", "tensor", "base"},
    "passes": {"ops", "graph", "tensor", "base"},
    "kernels": {"base"},
    "runtime": {"passes", "ops", "graph", "tensor", "base", "kernels"},
    "python": {"runtime", "passes", "ops", "graph", "tensor", "base"},
}
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in {".cpp", ".h", ".inl"})

pytestmark = pytest.mark.skipif(not SOURCES, reason="the tests run without the sources")


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#include\s+[<"]([^>"]+)[>"]', path.read_text(), re.M)


def test_arrows_run_one_way() -> None:
    wrong = []
    for path in SOURCES:
        room = path.relative_to(CSRC).parts[0]
        for name in includes(path):
            target = name.split("/")[0]
            if "/" in name and target in ALLOWED and target != room and target not in ALLOWED[room]:
                wrong.append(f"{path.relative_to(ROOT)} includes {name}: {room} may only use {sorted(ALLOWED[room])}")
    assert not wrong, "\n".join(wrong)


def test_only_the_bindings_use_pybind11() -> None:
    users = [p for p in SOURCES if any(n.startswith(("pybind11", "Python.h")) for n in includes(p))]
    assert all(p.is_relative_to(CSRC / "python") for p in users), users


def test_vector_kernels_share_no_inline_code_with_the_rest() -> None:
    """A std:: inline function compiled with AVX-512 could be the copy the linker keeps for every processor."""
    allowed = {"stddef.h", "stdint.h", "string.h", "immintrin.h", "math.h"}
    wrong = []
    shared = [CSRC / "kernels/cpu/simd.h", CSRC / "kernels/math.h", CSRC / "kernels/winograd.h"]
    for path in [*sorted((CSRC / "kernels/cpu/isa").glob("*")), *shared]:
        for name in includes(path):
            if "/" not in name and name not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} includes <{name}>")
    assert not wrong, "\n".join(wrong)


def test_files_are_one_idea() -> None:
    long = [
        f"{p.relative_to(ROOT)}: {n} lines"
        for p in [*SOURCES, *sorted((ROOT / "python").rglob("*.py"))]
        if (n := len(p.read_text().splitlines())) > 520
    ]
    assert not long, "\n".join(long)
