"""What the compiler made of the micro-kernels: their inner loops keep every accumulator in a register, and the object
files of an instruction set share no code with the rest."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ISA = ROOT / "csrc/kernels/cpu/isa"
COMMON = [
    "-std=c++20",
    "-O3",
    "-DNDEBUG",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffunction-sections",
    "-fvisibility=hidden",
    "-fPIC",
    f"-I{ROOT / 'csrc'}",
]
FLAGS = {
    "avx2": ["-DDLCORE_ISA=avx2", "-mavx2", "-mfma"],
    "avx512": [
        "-DDLCORE_ISA=avx512",
        "-mavx2",
        "-mfma",
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mprefer-vector-width=512",
    ],
}
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")

pytestmark = [
    pytest.mark.skipif(not ISA.exists() or COMPILER is None, reason="needs the sources and a compiler"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 kernels"),
]


@functools.cache
def assembly(source: Path, isa: str) -> list[str]:
    text = subprocess.run(
        [str(COMPILER), *COMMON, *FLAGS[isa], "-S", "-o", "-", str(source)], check=True, capture_output=True, text=True
    ).stdout
    return [line.strip() for line in text.splitlines() if line.strip()]


def inner_loops(lines: list[str]) -> list[list[str]]:
    """The stretches from a label to a backward jump to it that hold no other loop."""
    at = {m[1]: i for i, line in enumerate(lines) if (m := re.match(r"(\.L\w+):", line))}
    spans = []
    for i, line in enumerate(lines):
        if (m := re.match(r"j\w+\s+(\.L\w+)$", line)) and at.get(m[1], i) < i:
            spans.append((at[m[1]], i))
    innermost = [s for s in spans if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    return [lines[a : b + 1] for a, b in innermost]


def spills(loop: list[str]) -> list[str]:
    return [x for x in loop if "(%rsp" in x and re.search(r"[xyz]mm", x)]


@pytest.mark.parametrize(
    ("source", "isa"),
    [*((source, isa) for source in ("gemm_micro", "gemm64") for isa in FLAGS), ("gemm_bf16", "avx512")],
)
def test_no_stack_traffic_in_the_inner_loops(source: str, isa: str) -> None:
    multiply = "vdpbf16ps" if source == "gemm_bf16" else "vfmadd"
    loops = [lp for lp in inner_loops(assembly(ISA / f"{source}.cpp", isa)) if sum(multiply in x for x in lp) >= 8]
    assert loops, "no micro-kernel loop found: the test no longer looks at the right file"
    full = 28 if isa == "avx512" else 12
    assert max(sum(multiply in x for x in lp) for lp in loops) >= full, "the accumulator block is not fully unrolled"
    for lp in loops:
        assert not spills(lp), "\n".join(lp)


@pytest.mark.parametrize("isa", list(FLAGS))
@pytest.mark.parametrize(
    ("source", "function"),
    [(f"conv_{f}", "") for f in ("depthwise", "few", "few_weight", "grouped", "points")]
    + [("attention", "dots"), ("attention_backward", "spread_keys")],
)
def test_no_stack_traffic_in_convolutions_and_attention(source: str, function: str, isa: str) -> None:
    """Of attention the loops over whole blocks; exponentials and corners have more constants than registers."""
    text = "\n".join(assembly(ISA / f"{source}.cpp", isa))
    parts = re.split(r"^(?=_Z[\w.]+:$)", text, flags=re.MULTILINE)
    mine = [part.splitlines() for part in parts if function in part.split("\n", 1)[0]]
    loops = [lp for lines in mine for lp in inner_loops(lines) if sum("vfmadd" in x for x in lp) >= 4]
    assert loops, "no micro-kernel loop found: the test no longer looks at the right file"
    for lp in loops:
        assert not spills(lp), "\n".join(lp)


@pytest.mark.parametrize("isa", list(FLAGS))
@pytest.mark.parametrize("source", sorted(ISA.glob("*.cpp")), ids=lambda p: p.stem)
def test_object_files_share_no_code(source: Path, isa: str, tmp_path: Path) -> None:
    """A weak symbol outside our namespace could be the copy that all processors end up running."""
    out = tmp_path / "kernel.o"
    subprocess.run([str(COMPILER), *COMMON, "-O1", *FLAGS[isa], "-c", "-o", str(out), str(source)], check=True)
    symbols = subprocess.run(["nm", "-C", str(out)], check=True, capture_output=True, text=True).stdout.splitlines()
    shared = [s for s in symbols if re.search(r" [WVu] ", s) and f"dlcore::{isa}::" not in s]
    assert not shared, shared
