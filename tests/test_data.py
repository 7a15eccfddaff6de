"""Datasets, splitting, loading, preprocessing."""

from __future__ import annotations

import gzip
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import dlcore as dl
from dlcore import data

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 5)).astype(np.float32)
Y = np.arange(200) % 4


def rows_of(*parts: data.ArrayDataset) -> list[int]:
    """Which rows of X stand in the parts, found by their first column."""
    place = {float(v): i for i, v in enumerate(X[:, 0])}
    return [place[float(v)] for p in parts for v in p.column(0)[:, 0]]


def test_split_keeps_every_row_once_and_each_class_in_proportion() -> None:
    train, test = data.ArrayDataset(X, Y).split(test=0.2, seed=3)
    assert (len(train), len(test)) == (160, 40)
    assert sorted(rows_of(train, test)) == list(range(200))
    assert np.bincount(test.labels).tolist() == [10, 10, 10, 10]
    assert test.sealed
    assert not train.sealed


def test_split_is_decided_by_the_seed() -> None:
    whole = data.ArrayDataset(X, Y)
    first, again, other = (rows_of(whole.split(seed=s)[1]) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_uneven_classes_round_to_the_number_asked_for() -> None:
    y = np.array([0] * 101 + [1] * 66 + [2] * 33)
    _, test = data.ArrayDataset(X, y).split(test=0.25, seed=0)
    assert len(test) == 50
    assert np.abs(np.bincount(test.labels) - np.array([101, 66, 33]) / 4).max() < 1


def test_groups_stay_together() -> None:
    groups = np.arange(200) // 7
    train, test = data.ArrayDataset(X, Y).split(test=0.3, seed=0, groups=groups)
    assert not set(groups[rows_of(train)]) & set(groups[rows_of(test)])
    assert 50 <= len(test) <= 70


def test_time_keeps_the_latest_for_testing() -> None:
    when = RNG.permutation(200)
    train, test = data.ArrayDataset(X, Y).split(test=0.1, time=when)
    assert when[rows_of(train)].max() < when[rows_of(test)].min()


def test_rows_that_stand_on_both_sides_are_warned_of() -> None:
    x = X.copy()
    x[100:110] = x[:10]
    with pytest.warns(UserWarning, match=r"\d+ rows of train stand again in test"):
        data.ArrayDataset(x, Y).split(test=0.5, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.ArrayDataset(X, Y).split(test=0.5, seed=0)


@pytest.mark.parametrize("bad", [0, 1.0, -0.1, 200, True])
def test_a_share_must_leave_rows_on_both_sides(bad: float) -> None:
    with pytest.raises(ValueError, match="test should be a share"):
        data.ArrayDataset(X, Y).split(test=bad)


def test_labels_may_be_text() -> None:
    d = data.ArrayDataset([[1.0], [2.0], [3.0]], ["dog", "cat", "dog"])
    assert d.classes == ["cat", "dog"]
    assert d.labels.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="cow"):
        data.ArrayDataset([[1.0]], ["cow"], classes=["cat", "dog"])


def test_any_array_like_is_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    for x in (X.tolist(), dl.tensor(X), np.load(tmp_path / "x.npy", mmap_mode="r")):
        assert np.array_equal(data.ArrayDataset(x, Y)[3:5][0], X[3:5])


def test_loader_gives_each_row_once_in_an_order_by_seed_and_epoch() -> None:
    d = data.ArrayDataset(X, Y)
    loader = data.DataLoader(d, batch_size=32, shuffle=True, seed=5)
    first, second = ([y for _, y in loader] for _ in range(2))
    assert [len(y) for y in first] == [32] * 6 + [8]
    assert len(loader) == 7
    assert sorted(np.concatenate(first)) == sorted(Y)
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    again = data.DataLoader(d, batch_size=32, shuffle=True, seed=5)
    assert all(np.array_equal(a, b) for a, (_, b) in zip(first, again, strict=True))
    assert [len(y) for _, y in data.DataLoader(d, 32, drop_last=True)] == [32] * 6
    assert np.array_equal(np.concatenate([x for x, _ in data.DataLoader(d, 32)]), X)


def test_loader_converts_what_kernels_lack() -> None:
    x, y = next(iter(data.DataLoader(data.ArrayDataset(X.astype(np.float64), Y.astype(np.int16)), 4)))
    assert (x.dtype, y.dtype) == (np.float32, np.int64)


def test_loader_ends_its_thread_when_dropped_and_hands_errors_on() -> None:
    before = threading.active_count()
    batches = iter(data.DataLoader(data.ArrayDataset(X, Y), 8))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before

    class Broken(data.ArrayDataset):
        def __getitem__(self, index: object) -> tuple[np.ndarray, ...]:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(data.DataLoader(Broken(X, Y), 8))


@pytest.mark.parametrize("shape", [(50, 3), (20, 3, 4, 5), (20, 7, 6)])
def test_normalize(shape: tuple[int, ...]) -> None:
    x = (RNG.standard_normal(shape) * 3 + 5).astype(np.float32)
    n = data.Normalize().fit(x)
    axes = {2: 0, 4: (0, 2, 3)}.get(len(shape))
    out = n(x)
    np.testing.assert_allclose(out.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axes), 1, atol=1e-5)
    np.testing.assert_allclose(np.asarray(n(dl.tensor(x))), out, atol=1e-6)


def test_normalize_leaves_a_constant_column_at_zero_and_takes_integers() -> None:
    x = np.full((10, 2), 7, np.uint8)
    x[:, 1] = np.arange(10)
    out = data.Normalize().fit(x)(x)
    assert (out[:, 0] == 0).all()
    with pytest.raises(ValueError, match="call fit"):
        data.Normalize()(x)


def test_characters() -> None:
    t = data.CharTokenizer("to be or not")
    assert t.decode(t.encode("not to be")) == "not to be"
    assert data.CharTokenizer.from_json(t.to_json()).vocabulary == t.vocabulary
    with pytest.raises(ValueError, match="'x' at position 2"):
        t.encode("tox")
    with pytest.raises(ValueError, match=r"\[0, "):
        t.decode([99])


def idx(values: np.ndarray, code: int = 8) -> bytes:
    head = bytes([0, 0, code, values.ndim]) + b"".join(int(d).to_bytes(4, "big") for d in values.shape)
    return head + values.tobytes()


def test_idx_files(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    whole = idx(values)
    (tmp_path / "a.gz").write_bytes(gzip.compress(whole))
    assert np.array_equal(data.read_idx(tmp_path / "a.gz"), values)
    cases = {
        "cut": whole[:-1],
        "long": whole + b"x",
        "head": whole[:6],
        "kind": b"PNG" + whole,
        "rank": whole[:3] + b"\xff",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(dl.FileError, match=name):
            data.read_idx(tmp_path / name)
    (tmp_path / "b.gz").write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(dl.FileError, match="damaged"):
        data.read_idx(tmp_path / "b.gz")
