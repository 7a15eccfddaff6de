"""The planner: state is updated in place and every reader of the old value sees the old value."""

from __future__ import annotations

import numpy as np
import pytest

from dlcore import _core


def tensor(*values: float) -> _core.Tensor:
    return _core.Tensor.from_numpy(np.array(values, np.float32), copy=True)


def test_states_may_change_places() -> None:
    g = _core.Graph()
    a, b = g.state("a", "f32", [2]), g.state("b", "f32", [2])
    g.update(a, b)
    g.update(b, a)
    p = _core.Program(g)
    ta, tb = tensor(1, 2), tensor(3, 4)
    p.bind("a", ta)
    p.bind("b", tb)
    p.run([])
    assert ta.numpy().tolist() == [3, 4]
    assert tb.numpy().tolist() == [1, 2]


def test_a_late_reader_sees_the_old_state() -> None:
    g = _core.Graph()
    a, x = g.state("a", "f32", [2]), g.input("x", "f32", [2])
    (new,) = g.emit("add", [a, x])
    g.update(a, new)
    (late,) = g.emit("mul", [a, x])  # reads the old a, though it stands after the update's node
    (both,) = g.emit("sub", [new, a])  # needs old and new at once
    for name, v in (("new", new), ("late", late), ("both", both), ("old", a)):
        g.output(name, v)
    for passes in ([], None):
        p = _core.Program(g, passes=passes)
        t = tensor(1, 2)
        p.bind("a", t)
        out = [o.numpy().tolist() for o in p.run([tensor(10, 20)])]
        assert out == [[11, 22], [10, 40], [10, 20], [1, 2]]
        assert t.numpy().tolist() == [11, 22]


def test_update_in_place_needs_no_copy() -> None:
    g = _core.Graph()
    w, d, lr = g.param("w", "f32", [4]), g.input("d", "f32", [4]), g.input("lr", "f32", [])
    g.update(w, g.emit("sgd_plain_update", [w, d, lr], {"weight_decay": 0.0})[0])
    p = _core.Program(g)
    assert "copy" not in p.plan_text()
    assert p.arena_bytes == 0


def test_an_output_may_be_an_input_a_state_or_twice_the_same() -> None:
    g = _core.Graph()
    x, s = g.input("x", "f32", [2]), g.state("s", "f32", [2])
    (y,) = g.emit("neg", [x])
    for i, v in enumerate((x, s, y, y)):
        g.output(str(i), v)
    p = _core.Program(g)
    p.bind("s", tensor(7, 8))
    assert [o.numpy().tolist() for o in p.run([tensor(1, 2)])] == [[1, 2], [7, 8], [-1, -2], [-1, -2]]


def test_run_checks_its_inputs_and_bindings() -> None:
    g = _core.Graph()
    x, s = g.input("x", "f32", [2]), g.state("s", "f32", [2])
    g.output("y", g.emit("add", [x, s])[0])
    p = _core.Program(g)
    with pytest.raises(ValueError, match="'s' has no memory yet"):
        p.run([tensor(1, 2)])
    with pytest.raises(KeyError, match="no parameter or state named 'q'"):
        p.bind("q", tensor(1, 2))
    with pytest.raises(ValueError, match=r"'s' should be f32\[2\], got f32\[3\]"):
        p.bind("s", tensor(1, 2, 3))
    p.bind("s", tensor(1, 2))
    with pytest.raises(ValueError, match="takes 1 inputs, got 2"):
        p.run([tensor(1, 2), tensor(1, 2)])
    with pytest.raises(ValueError, match=r"input 'x' should be f32\[2\], got f32\[1\]"):
        p.run([tensor(1)])


def test_profile_leaves_states_alone() -> None:
    g = _core.Graph()
    w = g.param("w", "f32", [4])
    g.update(w, g.emit("add", [w, w])[0])
    p = _core.Program(g)
    t = tensor(1, 2, 3, 4)
    p.bind("w", t)
    rows = p.profile([], 3)
    assert rows[0]["op"] == "add"
    assert t.numpy().tolist() == [1, 2, 3, 4]


def test_an_error_in_a_kernel_names_the_layer() -> None:
    g = _core.Graph()
    x, i = g.input("x", "f32", [3, 2]), g.input("i", "i64", [1])
    g.output("y", g.emit("take", [x, i], {}, "encoder.embedding")[0])
    p = _core.Program(g)
    with pytest.raises(IndexError, match=r"index 5 .*outside \[0, 3\).*encoder\.embedding"):
        p.run([_core.Tensor("f32", (3, 2)), _core.Tensor.from_numpy(np.array([5]))])
