"""What each pass does to a graph. That none changes the results is test_random_graphs.py's matter."""

from __future__ import annotations

import numpy as np
import pytest

from dlcore import _core

CONV = {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1, "layout": "nchw"}
POOL = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0], "dilation": [1, 1], "ceil": 0, "layout": "nchw"}

EXACT = [
    "simplify", "fold", "layout", "simplify", "views", "pairs", "fuse", "simplify", "recompute", "epilogue"
]  # no `select`  # fmt: skip


def ops(g: _core.Graph) -> list[str]:
    return [node[0] for node in g.nodes()]


def emit(g: _core.Graph, op: str, *inputs: int, where: str = "", **attrs: object) -> int:
    return g.emit(op, list(inputs), attrs, where)[0]  # type: ignore[arg-type]


def full(g: _core.Graph, value: float, *shape: int) -> int:
    return emit(g, "full", value=value, shape=list(shape), dtype="f32")


def cnn() -> _core.Graph:
    """A training step: conv-bias-norm-relu-pool twice, flatten, linear."""
    g = _core.Graph()
    h = g.input("x", "f32", [4, 3, 8, 8])
    params = []
    for i, (c, o) in enumerate([(3, 8), (8, 16)]):
        w, b, gamma, beta = (
            g.param(f"{i}.{n}", "f32", s)
            for n, s in [("w", (o, c, 3, 3)), ("b", (o,)), ("gamma", (o,)), ("beta", (o,))]
        )
        params += [w, b, gamma, beta]
        h = emit(g, "add", emit(g, "conv2d", h, w, **CONV), emit(g, "reshape", b, shape=[o, 1, 1]))
        h = emit(g, "relu", emit(g, "batch_norm", h, gamma, beta, axis=1, eps=1e-5))
        h = emit(g, "max_pool2d", h, **POOL)
    w = g.param("fc", "f32", [10, 64])
    y = emit(g, "matmul", emit(g, "reshape", h, shape=[4, 64]), w, transpose_a=0, transpose_b=1)
    loss = emit(g, "sum", emit(g, "mul", y, y), axes=[0, 1], keepdims=0)
    g.output("loss", loss)
    for p, d in zip([*params, w], g.grad(loss, [*params, w]), strict=True):
        g.update(p, emit(g, "sub", p, emit(g, "mul", d, full(g, 0.1))))
    return g


def test_images_stay_channels_last_between_the_edges() -> None:
    g = cnn().optimize(["simplify", "layout", "simplify"])
    g.verify()
    # The image, the flattened rows, and the gradient on its way back through them.
    assert ops(g).count("transpose") == 3
    assert 'layout="nchw"' not in g.text()
    assert "axis=1" not in g.text()


def test_dropout_does_not_mind_the_layout() -> None:
    """The mask is the same with and without channels-last images, and costs no transpose."""
    for size in (8, 7):
        g = _core.Graph()
        x, w, rng = (
            g.input("x", "f32", [2, 3, size, size]),
            g.input("w", "f32", [20, 3, 3, 3]),
            g.input("r", "i64", [2]),
        )
        y = g.emit("dropout", [emit(g, "conv2d", x, w, **CONV), rng], {"p": 0.4, "site": 3})[0]
        g.output("y", emit(g, "conv2d", y, g.input("v", "f32", [4, 20, 3, 3]), **CONV))
        assert ops(g.optimize()).count("transpose") == 2
        draw = np.random.default_rng(0)
        data = [
            _core.Tensor.from_numpy(draw.standard_normal(s).astype(np.float32))
            for s in ((2, 3, size, size), (20, 3, 3, 3), (4, 20, 3, 3))
        ]
        data.insert(2, _core.Tensor.from_numpy(np.array([5, 1])))
        want = _core.Program(g, passes=[], backend="ref").run(data)[0].numpy()
        np.testing.assert_allclose(_core.Program(g).run(data)[0].numpy(), want, rtol=1e-4, atol=1e-4)


def test_chains_become_one_program() -> None:
    g = cnn().optimize()
    g.verify()
    left = [op for op in ops(g) if op in {"add", "sub", "mul", "gt", "where"}]
    assert left == ["mul", "add"]  # alone: y·y, and its derivative y + y
    assert ops(g).count("conv2d_fused") == 2  # each with its bias
    codes = [node[3]["code"] for node in g.nodes() if node[0] == "fused"]
    assert any("where" in code and "gt" in code for code in codes)
    assert any(code == "t0=mul(x1,#0x1.99999ap-4);t1=sub(x0,t0);out t1" for code in codes)


def test_fusion_never_closes_a_cycle() -> None:
    g = _core.Graph()
    x = g.input("x", "f32", [4, 4])
    a = emit(g, "tanh", emit(g, "exp", x))
    b = emit(g, "matmul", a, x, transpose_a=0, transpose_b=0)
    g.output("y", emit(g, "add", emit(g, "relu", b), a))
    f = g.optimize(["fuse"])
    f.verify()
    assert ops(f) == ["fused", "matmul", "fused"]


@pytest.mark.parametrize(
    ("op", "value", "gone"),
    [
        ("add", 0.0, True),
        ("sub", 0.0, True),
        ("mul", 1.0, True),
        ("div", 1.0, True),
        ("mul", 0.0, False),
        ("pow", 1.0, False),
    ],
)
def test_neutral_elements_vanish(op: str, value: float, gone: bool) -> None:
    g = _core.Graph()
    x = g.input("x", "f32", [3])
    g.output("y", emit(g, op, x, full(g, value)))
    assert (ops(g.optimize(["simplify"])) == []) is gone


def test_a_neutral_element_that_broadcasts_stays() -> None:
    g = _core.Graph()
    x = g.input("x", "f32", [3])
    g.output("y", emit(g, "add", x, full(g, 0.0, 2, 3)))
    s = g.optimize(["simplify"])
    s.verify()
    assert s.shape(s.outputs()[0][1]) == (2, 3)


def test_views_and_repeats_are_simplified() -> None:
    g = _core.Graph()
    x = g.input("x", "f32", [2, 3, 4])
    t = emit(g, "transpose", emit(g, "transpose", x, perm=[2, 0, 1]), perm=[1, 2, 0])
    r = emit(g, "reshape", emit(g, "reshape", t, shape=[24]), shape=[2, 3, 4])
    g.output("y", emit(g, "add", emit(g, "exp", r), emit(g, "exp", x)))
    assert ops(g.optimize(["simplify"])) == ["exp", "add"]


def test_products_read_transposed_operands() -> None:
    g = _core.Graph()
    x, w = g.input("x", "f32", [2, 5, 3]), g.param("w", "f32", [4, 3])
    g.output("y", emit(g, "matmul", x, emit(g, "transpose", w, perm=[1, 0]), transpose_a=0, transpose_b=0))
    s = g.optimize(["simplify"])
    assert ops(s) == ["matmul"]
    assert s.nodes()[0][3]["transpose_b"] == 1


def test_gradients_of_slices_are_joined() -> None:
    g = _core.Graph()
    x = g.param("x", "f32", [2, 6])
    parts = [emit(g, "slice", x, start=[0, i], stop=[2, i + 2], step=[1, 1]) for i in (0, 2, 4)]
    y = emit(g, "mul", emit(g, "mul", parts[0], parts[1]), parts[2])
    (d,) = g.grad(emit(g, "sum", y, axes=[0, 1], keepdims=0), [x])
    g.output("d", d)
    s = g.optimize(["simplify"])
    assert "pad" not in ops(s)
    assert ops(s).count("concat") == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_of_a_relu_before_a_pool_is_masked_after_pooling(stride: int) -> None:
    g = _core.Graph()
    x, scale = g.input("x", "f32", [2, 3, 9, 8]), g.input("scale", "f32", [1])
    pool = {"kernel": [3, 2], "stride": [stride] * 2, "padding": [1, 1, 1, 0], "dilation": [1, 1], "ceil": 0}
    y = g.emit("max_pool2d", [emit(g, "relu", x)], {**pool, "layout": "nchw"})[0]
    g.output("loss", emit(g, "sum", emit(g, "mul", emit(g, "mul", y, y), scale), axes=[0, 1, 2, 3], keepdims=0))
    g.output("dx", g.grad(g.outputs()[0][1], [x])[0])
    simple = g.optimize(["simplify"])
    assert ops(simple)[-1] == "max_pool2d_backward"
    sizes = [simple.shape(node[2][0]) for node in simple.nodes() if node[0] == "where"]
    assert sizes == [simple.shape(next(node[2][0] for node in simple.nodes() if node[0] == "max_pool2d"))]
    data = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)
    data[0, 0, :5], data[1, 2, 4, 4] = -1, np.nan  # windows without anything above zero, and one without a maximum
    inputs = [_core.Tensor.from_numpy(a) for a in (data, np.full(1, 0.5, np.float32))]
    want = _core.Program(g, passes=[], backend="ref").run(inputs)[1].numpy()
    for passes in ([], None):
        found = _core.Program(simple if passes == [] else g, passes=passes).run(inputs)[1].numpy()
        np.testing.assert_array_equal(found, want)


def test_a_state_that_takes_another_states_value_is_copied_first() -> None:
    g = _core.Graph()
    a, b = g.state("a", "f32", [3]), g.state("b", "f32", [3])
    g.update(a, b)
    g.update(b, emit(g, "reshape", a, shape=[3]))
    s = g.optimize(["simplify"])
    s.verify()
    assert ops(s) == ["copy", "copy"]


def test_what_depends_on_constants_alone_is_folded() -> None:
    g = _core.Graph()
    x, w = g.input("x", "f32", [3, 2]), g.param("w", "f32", [2, 2])
    g.output("y", emit(g, "matmul", x, emit(g, "exp", emit(g, "neg", w)), transpose_a=0, transpose_b=0))
    frozen = g.freeze({"w": _core.Tensor.from_numpy(np.array([[0, 1], [2, 3]], np.float32))}).optimize()
    assert ops(frozen) == ["matmul"]
    (name,) = [name for role, name, _ in frozen.leaves() if role == "const"]
    np.testing.assert_allclose(frozen.const_data(name).numpy(), np.exp(-np.array([[0, 1], [2, 3.0]])), rtol=1e-6)


def test_a_literal_does_not_grow_into_a_constant() -> None:
    g = _core.Graph()
    x = g.input("x", "f32", [1000, 1000])
    g.output("y", emit(g, "add", x, emit(g, "sqrt", full(g, 2.0, 1000, 1000))))
    f = g.optimize()
    assert [role for role, _, _ in f.leaves()] == ["input"]


def test_rows_of_any_number_are_not_folded() -> None:
    prime = 1000003
    g = _core.Graph()
    g.batch = prime
    x = g.input("x", "f32", [prime, 2])
    count = emit(g, "sum", full(g, 1.0, prime), axes=[0], keepdims=0)
    g.output("y", emit(g, "div", x, count))
    small = g.optimize().with_batch(4)
    small.verify()
    (y,) = _core.Program(small).run([_core.Tensor.from_numpy(np.ones((4, 2), np.float32))])
    np.testing.assert_array_equal(y.numpy(), np.full((4, 2), 0.25, np.float32))


def test_unknown_pass_is_named() -> None:
    with pytest.raises(ValueError, match="unknown pass 'turbo'; known: simplify"):
        _core.Graph().optimize(["turbo"])


def test_gradient_of_a_gradient() -> None:
    g = _core.Graph()
    x = g.input("x", "f32", [3])
    y = emit(g, "sum", emit(g, "mul", emit(g, "mul", x, x), x), axes=[0], keepdims=0)
    (d,) = g.grad(y, [x])
    (dd,) = g.grad(emit(g, "sum", d, axes=[0], keepdims=0), [x])
    g.output("dd", dd)
    values = np.array([1, -2, 0.5], np.float32)
    (out,) = _core.Program(g).run([_core.Tensor.from_numpy(values)])
    np.testing.assert_allclose(out.numpy(), 6 * values)


def test_gradients_where_none_flows_are_zeros() -> None:
    g = _core.Graph()
    x, z = g.input("x", "f32", [2]), g.input("z", "f32", [3])
    y = emit(g, "sum", emit(g, "mul", emit(g, "floor", x), emit(g, "stop_gradient", x)), axes=[0], keepdims=0)
    for v, d in zip([x, z], g.grad(y, [x, z]), strict=True):
        assert g.nodes()[[node[1:3] for node in g.nodes()].index(([], [d]))][3]["value"] == 0.0
        assert g.shape(d) == g.shape(v)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g, x, i: (x, [x]), "must be a scalar"),
        (lambda g, x, i: (emit(g, "sum", x, axes=[0], keepdims=0), [i]), "i64"),
        (lambda g, x, i: (i, [x]), "float"),
    ],
)
def test_grad_says_what_is_wrong(make, message: str) -> None:  # type: ignore[no-untyped-def]
    g = _core.Graph()
    x, i = g.input("x", "f32", [2]), g.input("i", "i64", [2])
    output, wrt = make(g, x, i)
    with pytest.raises(ValueError, match=message):
        g.grad(output, wrt)


def test_gelu_and_its_slope_are_computed_at_once() -> None:
    g = _core.Graph()
    x, s = g.input("x", "f32", [3, 37]), g.input("s", "f32", [3, 37])
    y = emit(g, "mul", emit(g, "gelu", x), emit(g, "gelu", s))
    g.output("y", emit(g, "sum", emit(g, "mul", y, y), axes=[0, 1], keepdims=0))
    g.output("dx", g.grad(g.outputs()[0][1], [x])[0])
    joined = g.optimize(["simplify", "pairs"])
    assert ops(joined).count("gelu_with_slope") == ops(joined).count("gelu") == 1  # the slope at s is not wanted
    assert "gelu_slope" not in ops(joined)
    values = np.linspace(-14, 14, 111, dtype=np.float32).reshape(3, 37)
    values[0, :4] = [np.inf, -np.inf, -0.0, 1e-40]
    data = [_core.Tensor.from_numpy(values), _core.Tensor.from_numpy(np.ones((3, 37), np.float32))]
    want = _core.Program(g, passes=[], backend="ref").run(data)
    for backend in ("ref", ""):
        for a, b in zip(want, _core.Program(joined, passes=[], backend=backend).run(data), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_an_epilogue_has_the_derivative_of_its_parts() -> None:
    g = _core.Graph()
    x, w, b = (g.input(n, "f32", s) for n, s in [("x", [5, 7]), ("w", [7, 6]), ("b", [6])])
    h = emit(g, "tanh", emit(g, "add", emit(g, "matmul", x, w, transpose_a=0, transpose_b=0), b))
    g.output("y", emit(g, "sum", emit(g, "mul", h, h), axes=[0, 1], keepdims=0))
    joined = g.optimize(["fuse", "epilogue"])
    assert ops(joined) == ["matmul_fused", "sum"]
    rng = np.random.default_rng(0)
    data = [_core.Tensor.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in [(5, 7), (7, 6), (6,)]]
    found = []
    for graph in (g, joined):
        leaves = [v for _, _, v in graph.leaves()]
        for i, d in enumerate(graph.grad(graph.outputs()[0][1], leaves)):
            graph.output(f"d{i}", d)
        found.append([t.numpy() for t in _core.Program(graph).run(data)])
    for a, b2 in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b2)


def test_a_norm_takes_the_activation_and_the_residual_behind_it() -> None:
    """Its statistics are read before the activation, and the residual comes from another norm."""
    g = _core.Graph()
    x, s = g.input("x", "f32", [4, 5, 6, 8]), g.input("s", "f32", [4, 5, 6, 8])
    gain, shift = g.input("gain", "f32", [8]), g.input("shift", "f32", [8])
    y, mean, var = g.emit("batch_norm", [x, gain, shift], {"axis": 3, "eps": 1e-5})
    other = g.emit("batch_norm", [s, gain, shift], {"axis": 3, "eps": 1e-5})[0]
    g.output("statistics", emit(g, "sub", mean, emit(g, "sqrt", var)))
    g.output("y", emit(g, "relu", emit(g, "add", y, other)))
    joined = g.optimize(["fuse", "epilogue"])
    assert sorted(ops(joined)) == ["batch_norm", "batch_norm_fused", "fused"]
    rng = np.random.default_rng(0)
    data = [_core.Tensor.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in [(4, 5, 6, 8)] * 2 + [(8,)] * 2]
    want = _core.Program(g, passes=[], backend="ref").run(data)
    for backend in ("ref", ""):
        for a, b in zip(want, _core.Program(joined, passes=[], backend=backend).run(data), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_signals_stay_channels_last_as_images_of_height_one() -> None:
    """Convolutions of signals with what stands between them: one transpose in, one out, and one kernel a layer."""
    g = _core.Graph()
    draw = np.random.default_rng(0)
    h, width, data = g.input("x", "f32", [2, 16, 40]), 40, [draw.standard_normal((2, 16, 40))]
    conv = {"stride": [1, 1], "padding": [0, 0, 1, 1], "dilation": [1, 1], "groups": 1, "layout": "nchw"}
    for i in range(2):
        w, b = g.input(f"w{i}", "f32", [16, 16, 1, 3]), g.input(f"b{i}", "f32", [16])
        data += [draw.standard_normal((16, 16, 1, 3)), draw.standard_normal(16)]
        y = emit(g, "conv2d", emit(g, "reshape", h, shape=[2, 16, 1, width]), w, **conv)
        y = emit(g, "reshape", y, shape=[2, 16, width])
        h = emit(g, "relu", emit(g, "add", y, emit(g, "reshape", b, shape=[16, 1])))
        h = emit(g, "concat", h, h, axis=2)
        h = emit(g, "slice", h, start=[0, 0, 3], stop=[2, 16, 2 * width - 5], step=[1, 1, 2])
        width = g.shape(h)[2]
    h = emit(g, "max", h, axes=[2], keepdims=1)
    g.output("y", emit(g, "pad", h, low=[0, 1, 2], high=[0, 0, 1], interior=[0, 0, 1], value=0.5))
    assert ops(g.optimize()).count("conv2d_fused") == 2
    assert ops(g.optimize()).count("transpose") == 2
    tensors = [_core.Tensor.from_numpy(d.astype(np.float32)) for d in data]
    want = _core.Program(g, passes=[], backend="ref").run(tensors)[0].numpy()
    exact = _core.Program(g.optimize(EXACT), passes=[]).run(tensors)[0].numpy()
    np.testing.assert_array_equal(exact, want)
    # The kernels that `select` chooses here round anew.
    assert [n for n in g.optimize().text().splitlines() if 'algorithm="winograd4"' in n]
    np.testing.assert_allclose(_core.Program(g).run(tensors)[0].numpy(), want, atol=1e-5 * np.abs(want).max())
