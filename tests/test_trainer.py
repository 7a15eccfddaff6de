"""Trainer: what it measures, stops, saves, resumes and refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import dlcore as dl
from dlcore import callbacks, checkpoint, data, nn, optim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def make(lr: Any = 1e-2, dropout: float = 0.2, **more: Any) -> dl.Trainer:
    dl.seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))
    return dl.Trainer(model, nn.CrossEntropyLoss(), optim.AdamW(lr=lr), metrics=["accuracy", "f1"], **more)


def bits(trainer: dl.Trainer) -> list[bytes]:
    state = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    return [np.asarray(v).tobytes() for v in state.values()]


def test_training_learns_and_history_holds_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    train, test = data.ArrayDataset(X, Y, classes=["a", "b", "c"]).split(test=0.2)
    trainer = make(preprocess=data.Normalize().fit(train))
    history = trainer.fit(train, epochs=40, batch_size=32, validation=0.1)
    assert set(history.names()) == {"loss", "accuracy", "f1", "val_loss", "val_accuracy", "val_f1"}
    assert len(history["loss"]) == 40
    assert history["loss"][-1] < history["loss"][0]
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 40  # no terminal: one plain line an epoch
    assert "samples/s" in lines[0]
    assert "val_accuracy" in lines[0]
    result = trainer.evaluate(test)
    assert result["accuracy"] > 0.75  # a guess finds one in two
    program = trainer.freeze()
    predicted = program.predict(test.column(0))
    assert result["accuracy"] == pytest.approx(float((predicted == np.array(["a", "b", "c"])[test.labels]).mean()))


def test_evaluate_is_the_mean_over_rows() -> None:
    trainer = make()
    whole = trainer.evaluate(data.ArrayDataset(X, Y), batch_size=300)
    parts = trainer.evaluate(data.ArrayDataset(X, Y), batch_size=77)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert parts["accuracy"] == whole["accuracy"]


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    make().fit(data.ArrayDataset(X, Y), epochs=2)
    out = capsys.readouterr().out
    assert "epoch 2/2" in out
    assert "100%" in out


class Interrupt(optim.AdamW):
    """Presses Ctrl-C before update number `at`."""

    at = -1

    def advance(self) -> None:
        super().advance()
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """A shell that starts jobs in the background has them ignore Ctrl-C; here it works as at a prompt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("kind", ["in memory", "batch by batch"])
def test_interrupted_and_resumed_gives_the_same_bits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "batch by batch":
        monkeypatch.setattr(data.DataLoader, "columns", lambda self: None)
    else:
        monkeypatch.setattr("dlcore.trainer._MOST_STEPS", 2)
    dataset = data.ArrayDataset(X, Y)
    straight = make()
    straight.fit(dataset, epochs=4, batch_size=32, validation=0.1, verbose=False)

    first = make()
    first.optimizer = Interrupt(lr=1e-2)
    first.optimizer.at = 13  # in the middle of the second epoch
    first = dl.Trainer(first.model, first.loss, first.optimizer, ["accuracy", "f1"])
    first.fit(dataset, epochs=4, batch_size=32, validation=0.1, verbose=False)
    assert len(first.history) == 1
    assert first.position.batch > 0
    assert np.isfinite(first.evaluate(dataset)["loss"])  # usable
    first.save(tmp_path / "run.ckpt")

    dl.seed(99)
    second = make(lr=1e-2)
    dl.seed(77)
    second.fit(dataset, epochs=4, batch_size=32, validation=0.1, verbose=False, resume=tmp_path / "run.ckpt")
    assert bits(second) == bits(straight)
    assert second.history.epochs == straight.history.epochs


def test_epochs_in_memory_give_the_bits_of_steps_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for direct in (True, False):
        if not direct:
            monkeypatch.setattr(data.DataLoader, "columns", lambda self: None)
        trainer = make(lr=dl.schedule.cosine(1e-2, 40))
        trainer.fit(data.ArrayDataset(X.astype(np.float64), Y), epochs=3, batch_size=32, verbose=False)
        runs.append((bits(trainer), trainer.history.epochs))
    assert runs[0] == runs[1]


def test_fit_may_be_called_again() -> None:
    trainer = make()
    trainer.fit(data.ArrayDataset(X, Y), epochs=2, verbose=False)
    assert len(trainer.fit(data.ArrayDataset(X, Y), epochs=3, verbose=False)) == 5


def test_callbacks(tmp_path: Path) -> None:
    trainer = make()
    log, best = tmp_path / "log.csv", tmp_path / "at-{epoch}.ckpt"
    stop = callbacks.EarlyStopping("val_loss", patience=2)
    watch = [stop, callbacks.CSVLogger(log), callbacks.ModelCheckpoint(best, monitor="val_loss")]
    trainer.fit(data.ArrayDataset(X, Y), epochs=200, batch_size=16, validation=0.3, callbacks=watch, verbose=False)
    values = trainer.history["val_loss"]
    assert len(values) < 200
    assert len(values) - 1 - int(np.argmin(values)) == 2
    rows = list(csv.DictReader(log.open()))
    assert [float(r["val_loss"]) for r in rows] == values
    kept = data.ArrayDataset(X, Y)._divide(0.3, 0, None, None, None)[1]
    assert trainer.evaluate(data.ArrayDataset(X, Y).select(kept))["loss"] == min(values)  # the best is put back
    again = make()
    again.fit(data.ArrayDataset(X, Y), epochs=int(np.argmin(values)) + 1, verbose=False, validation=0.3, batch_size=16,
              resume=tmp_path / f"at-{np.argmin(values) + 1}.ckpt")  # fmt: skip
    assert again.history["val_loss"] == values[: len(again.history)]
    with pytest.raises(ValueError, match=r"val_loss.*validation"):
        make().fit(data.ArrayDataset(X, Y), callbacks=[callbacks.EarlyStopping()], verbose=False)
    with pytest.raises(ValueError, match="sealed"):
        callbacks.Evaluate(data.ArrayDataset(X, Y).split()[1], "test")


def test_a_loss_that_is_no_number_stops() -> None:
    with pytest.raises(
        dl.TrainingError, match=r"the loss is (nan|inf) at step \d+ of epoch \d+.*learning rate \(1e\+3\d\)"
    ):
        make(lr=1e38).fit(data.ArrayDataset(X * 1e10, Y), epochs=5, verbose=False)


def test_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            self.a, self.b = nn.Linear(6, 3), nn.Embedding(5, 3)

        def forward(self, x: dl.Tensor, kind: dl.Tensor) -> dl.Tensor:
            return self.a(x) + self.b(kind)

    dl.seed(0)
    kinds = RNG.integers(0, 5, 300)
    trainer = dl.Trainer(Two(), nn.CrossEntropyLoss(), optim.Adam(lr=1e-2), ["accuracy"])
    trainer.fit(data.ArrayDataset(X, kinds, Y), epochs=2, verbose=False)
    assert trainer.freeze().predict(X[:7], kinds[:7]).shape == (7,)
    assert np.array_equal(trainer.predict(X[:7], kinds[:7]), trainer.freeze().predict(X, kinds)[:7])


def test_damaged_checkpoints_are_errors(tmp_path: Path) -> None:
    trainer = make()
    trainer.fit(data.ArrayDataset(X, Y), verbose=False)
    trainer.save(tmp_path / "a.ckpt")
    whole = (tmp_path / "a.ckpt").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "none": b"", "text": b"hello" * 100}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(dl.FileError, match=name):
            make().fit(data.ArrayDataset(X, Y), resume=tmp_path / name)
    make().freeze(X[:1]).save(tmp_path / "program")
    with pytest.raises(dl.FileError, match="no checkpoint"):
        make().fit(data.ArrayDataset(X, Y), resume=tmp_path / "program")


HOSTILE: list[tuple[str, Any]] = [
    ("sums", [1]), ("sums", {}), ("sums", {"rows": 1, "loss": 0.0, "sums": []}), ("epoch", -5), ("epoch", float("inf")),
    ("batch", -3), ("random", {}), ("random", {"seed": 10**40, "step": 0, "draws": 0}), ("history", [1]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), HOSTILE, ids=[f"{k}-{v}"[:40] for k, v in HOSTILE])
def test_edited_checkpoints_leave_the_model_alone(tmp_path: Path, key: str, value: Any) -> None:
    make().save(tmp_path / "a.ckpt")
    raw = (tmp_path / "a.ckpt").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    state = json.loads(header["__metadata__"]["state"])
    header["__metadata__"]["state"] = json.dumps(state | {key: value})
    text = json.dumps(header).encode()
    (tmp_path / "edited").write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    trainer = make()
    trainer.model.load_state_dict({k: np.asarray(v) + 1 for k, v in trainer.model.state_dict().items()})
    before = bits(trainer)
    with pytest.raises(dl.FileError, match="edited"):
        trainer.fit(data.ArrayDataset(X, Y), verbose=False, resume=tmp_path / "edited")
    assert bits(trainer) == before


def test_a_checkpoint_of_another_model_leaves_the_model_alone(tmp_path: Path) -> None:
    other = dl.Trainer(nn.Sequential(nn.Linear(6, 3)), nn.CrossEntropyLoss(), optim.AdamW(lr=1e-2))
    other.save(tmp_path / "other.ckpt")
    trainer = make()
    before = bits(trainer)
    with pytest.raises(dl.FileError, match=r"other\.ckpt: it does not fit this model"):
        trainer.fit(data.ArrayDataset(X, Y), verbose=False, resume=tmp_path / "other.ckpt")
    assert bits(trainer) == before


def test_resuming_with_fewer_batches_says_so(tmp_path: Path) -> None:
    trainer = make()
    trainer.position = checkpoint.Position(0, 50)
    trainer.save(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="stands after 50 batches of an epoch, this data has 10"):
        make().fit(data.ArrayDataset(X, Y), batch_size=30, verbose=False, resume=tmp_path / "a.ckpt")


def test_a_transposed_moment_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    trainer = make()
    trainer.fit(data.ArrayDataset(X, Y), verbose=False)
    trainer.save(tmp_path / "a.ckpt")
    with safe_open(tmp_path / "a.ckpt", framework="numpy") as file:
        metadata = file.metadata()
    tensors = load_file(tmp_path / "a.ckpt")
    key = next(k for k in tensors if k.startswith("optimizer.") and k.endswith(".0.weight"))
    tensors[key] = np.ascontiguousarray(tensors[key].T)
    save_file(tensors, tmp_path / "turned.ckpt", metadata)
    for other in (make(), trainer):
        before = bits(other)
        with pytest.raises(dl.FileError, match=rf"'{key}' has shape \(6, 16\), the parameter '0.weight' \(16, 6\)"):
            other.fit(data.ArrayDataset(X, Y), epochs=2, verbose=False, resume=tmp_path / "turned.ckpt")
        assert bits(other) == before


def test_the_report_is_one_file_with_everything(tmp_path: Path) -> None:
    train, test = data.ArrayDataset(X, Y, classes=["<a>", "b", "c"]).split(test=0.2)
    trainer = make()
    trainer.fit(train, epochs=3, validation=0.1, verbose=False)
    path = tmp_path / "sub" / "report.html"
    assert trainer.report(test, path, worst=5) == trainer.evaluate(test)
    page = path.read_text()
    assert "&lt;a&gt;" in page
    assert "<a>" not in page
    assert page.count("<svg") == 3  # loss, accuracy, f1: training and validation together
    assert "http" not in page
    worst = page.split("Worst predictions")[1]
    assert worst.count("<tr") == 6
    counts = page.split("<h2>Confusion")[1].split("</table>")[0]
    found = [int(c.split("<")[0].rpartition(">")[2]) for c in counts.split("<td")[1:]]
    assert sum(found) == len(test)


def test_the_report_of_numbers_and_of_images(tmp_path: Path) -> None:
    target = X.sum(1, keepdims=True)
    trainer = dl.Trainer(nn.Sequential(nn.Linear(6, 1)), nn.MSELoss(), optim.SGD(lr=0.1), metrics=["mae"])
    trainer.report(data.ArrayDataset(X, target), tmp_path / "r.html", worst=3)
    outputs = np.asarray(trainer.model(dl.tensor(X)))
    row = int(np.abs(outputs - target).argmax())
    assert f"<tr><td>{row}</td>" in (tmp_path / "r.html").read_text().split("Worst")[1]
    images = RNG.standard_normal((20, 1, 4, 4)).astype(np.float32)
    trainer = dl.Trainer(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), nn.CrossEntropyLoss(), optim.SGD(lr=0.1), metrics=["accuracy"]
    )
    trainer.report(data.ArrayDataset(images, RNG.integers(0, 2, 20)), tmp_path / "i.html", worst=4)
    assert (tmp_path / "i.html").read_text().count("data:image/png;base64,") == 4


def test_tensorboard_is_used_or_asked_for(tmp_path: Path) -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"pip install 'dlcore\[tensorboard\]'"):
            callbacks.TensorBoard(tmp_path)
        return
    make().fit(data.ArrayDataset(X, Y), epochs=2, verbose=False, callbacks=[callbacks.TensorBoard(tmp_path)])
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    assert b"accuracy" in files[0].read_bytes()
