"""Program files: the same bits after saving and loading; an error, never a crash, for whatever else is in a file."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import data, nn

X = np.random.default_rng(0).integers(0, 255, (70, 1, 12, 12)).astype(np.uint8)


@pytest.fixture(scope="module")
def program() -> dl.Program:
    dl.seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 3)
    )
    return dl.freeze(model, X[:1], data.Normalize().fit(X), classes=["cat", "dog", "owl"])


@pytest.fixture
def saved(program: dl.Program, tmp_path: Path) -> Path:
    program.save(tmp_path / "p.dlcore")
    return tmp_path / "p.dlcore"


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write(path: Path, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def test_loaded_is_saved_to_the_bit(program: dl.Program, saved: Path) -> None:
    again = dl.load(saved)
    assert str(again) == str(program)
    assert again.run(X).tobytes() == program.run(X).tobytes()
    assert again.predict(X).tolist() == program.predict(X).tolist()
    assert set(again.predict(X)) <= {"cat", "dog", "owl"}
    np.testing.assert_allclose(again.predict_proba(X).sum(1), 1, atol=1e-6)
    assert again.inputs == [("x", "uint8", (None, 1, 12, 12))]
    assert again.outputs == [("y", "float32", (None, 3))]


def test_a_new_process_gives_the_same(program: dl.Program, saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    script = (
        "import sys, numpy as np, dlcore as dl\nnp.save(sys.argv[3], dl.load(sys.argv[1]).run(np.load(sys.argv[2])))"
    )
    subprocess.run([sys.executable, "-c", script, saved, tmp_path / "x.npy", tmp_path / "y.npy"], check=True)
    assert np.load(tmp_path / "y.npy").tobytes() == program.run(X).tobytes()


@pytest.mark.parametrize("rows", [0, 1, 2, 63, 64, 65, 70])
def test_any_number_of_rows(program: dl.Program, rows: int) -> None:
    assert program.run(X[:rows]).tobytes() == program.run(X)[:rows].tobytes()
    assert program.predict(X[:rows], batch_size=9).tolist() == program.predict(X)[:rows].tolist()


def test_several_threads(program: dl.Program) -> None:
    want = program.run(X).tobytes()
    wrong: list[int] = []

    def work(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(20):
            n = order.randint(1, 70)
            if program.run(X[:n]).tobytes() != want[: n * 12]:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_wrong_inputs_say_so(program: dl.Program) -> None:
    with pytest.raises(ValueError, match=r"'x' should have shape \(N, 1, 12, 12\), got \(3, 12, 12\)"):
        program.run(X[:3, 0])
    with pytest.raises(ValueError, match="do not fit"):
        program.run(X.astype(np.int64) + 1000)
    with pytest.raises(TypeError, match="should be uint8, got float32"):
        program.run(X.astype(np.float32))
    with pytest.raises(ValueError, match="takes 1 arrays, got 2"):
        program.run(X, X)


def test_a_program_that_mixes_rows_is_refused() -> None:
    class Mixes(nn.Module):
        def forward(self, x: dl.Tensor) -> dl.Tensor:
            return x.sum(axis=0)

    with pytest.raises(ValueError, match="beside it"):
        dl.freeze(Mixes(), np.zeros((2, 3), np.float32))


def test_text_goes_in_through_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = data.CharTokenizer("abc")
    model = nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(8, 2))
    dl.freeze(model, np.zeros((1, 2), np.int64), tokenizer).save(tmp_path / "t.dlcore")
    again = dl.load(tmp_path / "t.dlcore")
    assert np.array_equal(again.run(["ab", "ca"]), again.run(np.array([[0, 1], [2, 0]])))
    with pytest.raises(IndexError, match=r"outside \[0, 3\)"):
        again.run(np.array([[0, 7]]))


def test_algorithms_are_chosen_when_freezing(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.Flatten()
    )
    x = np.random.default_rng(0).standard_normal((3, 16, 8, 8)).astype(np.float32)
    chosen = {}
    for optimize in ("throughput", "latency"):
        dl.freeze(model, example=x, optimize=optimize).save(tmp_path / "p.dlcore")
        again = dl.load(tmp_path / "p.dlcore")
        planned = again._plan(3).text()
        chosen[optimize] = [planned.count(f'algorithm="{a}"') for a in ("winograd4", "direct")]
        np.testing.assert_allclose(again.run(x), model(dl.tensor(x)).numpy(), atol=1e-5)
    assert chosen == {"throughput": [2, 0], "latency": [1, 1]}


@pytest.mark.parametrize(
    ("size", "channels", "latency"), [(8, 192, "winograd2"), (8, 32, "winograd4"), (12, 192, "winograd4")]
)
def test_latency_takes_the_smaller_form_for_few_tiles_by_many_weights(size: int, channels: int, latency: str) -> None:
    model = nn.Conv2d(channels, channels, 3, padding=1)
    x = np.random.default_rng(0).standard_normal((1, channels, size, size)).astype(np.float32)
    for optimize, algorithm in (("throughput", "winograd4"), ("latency", latency)):
        program = dl.freeze(model, example=x, optimize=optimize)
        assert f'algorithm="{algorithm}"' in program._plan(1).text()
        np.testing.assert_allclose(program.run(x), model(dl.tensor(x)).numpy(), atol=1e-4)


def test_profile_names_the_kernels(program: dl.Program) -> None:
    table = program.profile(X)
    assert "conv2d" in table
    assert "cpu" in table or dl.info()["isa"] == "ref"
    assert "GFLOP/s" in table
    assert "GB/s" in table


def test_memory_over_a_run(program: dl.Program, tmp_path: Path) -> None:
    rows = program.memory(len(X))
    assert {op for op, _, _ in rows} >= {op for op, *_ in program.graph.nodes() if op.startswith("max_pool")}
    assert 0 < max(b for _, _, b in rows) <= program._plan(len(X)).arena_bytes
    pytest.importorskip("matplotlib")
    dl.plots.memory(rows, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="at least 1 row"):
        program.memory(0)


def harmless(path: Path) -> bool:
    """Loads the file: either an error of ours, or a program that runs. True for an error."""
    try:
        again = dl.load(path)
    except dl.FileError as error:
        return path.name in str(error)
    inputs = [np.zeros((2, *(int(d) for d in s[1:] if d is not None)), t) for _, t, s in again.inputs]
    try:
        again.run(*inputs)
    except (ValueError, IndexError, MemoryError, TypeError):
        return True
    return False


def test_truncated_anywhere(saved: Path, tmp_path: Path) -> None:
    raw = saved.read_bytes()
    path = tmp_path / "cut"
    for at in [0, 1, 7, 8, 9, *range(10, len(raw), max(1, len(raw) // 60)), len(raw) - 1]:
        path.write_bytes(raw[:at])
        with pytest.raises(dl.FileError, match="cut"):
            dl.load(path)


def test_flipped_bits(saved: Path, tmp_path: Path) -> None:
    raw = saved.read_bytes()
    path, order, errors = tmp_path / "flipped", random.Random(0), 0
    (length,) = struct.unpack("<Q", raw[:8])
    for _ in range(400):
        changed = bytearray(raw)
        for _ in range(order.randint(1, 3)):
            changed[order.randrange(8 + length)] ^= 1 << order.randrange(8)
        path.write_bytes(changed)
        errors += harmless(path)
    assert errors > 200


EDITS: list[tuple[str, str]] = [
    ("u8[N,1,12,12] = input", "u8[N,1,12,13] = input"),
    ("u8[N,1,12,12] = input", "u8[N,1,12,99999999999] = input"),
    ("u8[N,1,12,12] = input", "u8[7,1,12,12] = input"),
    ("dlcore 1", "dlcore 2"),
    ("batch 1000003", "batch 1000033"),
    ("batch 1000003\n", ""),
    ("matmul(", "system("),
    ("conv2d(", "conv2d_backward_data("),
    ("kernel=[2,2]", "kernel=[2,200000]"),
    ("stride=[2,2]", "stride=[0,0]"),
    ("padding=[0,0,0,0]", "padding=[-5,0,0,0]"),
    ("transpose_b=", "transpose_z="),
    (' = input "x"', ' = param "x"'),
    ('output "y"', 'output "x"\noutput "y"'),
]


@pytest.mark.parametrize(("old", "new"), EDITS, ids=[n[:30] for _, n in EDITS])
def test_edited_graph(saved: Path, tmp_path: Path, old: str, new: str) -> None:
    header, body = read(saved)
    text = header["__metadata__"]["graph"]
    assert old in text, text
    header["__metadata__"]["graph"] = text.replace(old, new, 1)
    write(tmp_path / "edited", header, body)
    with pytest.raises(dl.FileError, match="edited"):
        dl.load(tmp_path / "edited")


@pytest.mark.parametrize(("key", "value"), [
    ("format", "other"), ("version", "2"), ("classes", "{"), ("classes", '["a"]'), ("classes", "[1, 2, 3]"),
    ("kind", "magic"),
    ("tokenizer", "[]"), ("tokenizer", '{"kind": "characters", "vocabulary": 3}'), ("optimize", "x"), ("graph", ""),
    ("classes", "[" * 5000),
])  # fmt: skip
def test_edited_metadata(saved: Path, tmp_path: Path, key: str, value: str) -> None:
    header, body = read(saved)
    header["__metadata__"][key] = value
    write(tmp_path / "edited", header, body)
    with pytest.raises(dl.FileError, match="edited"):
        dl.load(tmp_path / "edited")


def test_edited_tensors(saved: Path, tmp_path: Path) -> None:
    header, body = read(saved)
    names = [k for k in header if k != "__metadata__"]
    path = tmp_path / "edited"
    for change in ("missing", "extra", "shape", "dtype", "range"):
        h = json.loads(json.dumps(header))
        if change == "missing":
            h["another"] = h.pop(names[0])
        elif change == "extra":
            h["another"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
        elif change == "shape":
            h[names[0]]["shape"] = [1, *h[names[0]]["shape"]]
        elif change == "dtype":
            h[names[0]]["dtype"] = "I32"
        else:
            h[names[0]]["data_offsets"] = [0, 1 << 60]
        write(path, h, body + b"\0" * 4 if change == "extra" else body)
        with pytest.raises(dl.FileError, match="edited"):
            dl.load(path)
