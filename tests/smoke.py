"""Run in a clean environment with the wheel alone: trains, freezes, saves, loads, predicts."""

import tempfile
from pathlib import Path

import numpy as np

import dlcore as dl
from dlcore import data, nn, optim

dl.seed(0)
rng = np.random.default_rng(0)
x = rng.standard_normal((400, 2)).astype(np.float32)
y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
train, test = data.ArrayDataset(x, y, classes=["differ", "agree"]).split(test=0.2, seed=0)
model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
trainer = dl.Trainer(model, loss=nn.CrossEntropyLoss(), optimizer=optim.AdamW(lr=1e-2), metrics=["accuracy"])
trainer.fit(train, epochs=15, batch_size=32)
result = trainer.evaluate(test)
assert result["accuracy"] > 0.9, result
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "xor.dlcore"
    trainer.freeze().save(path)
    labels = dl.load(path).predict(np.array([[1, 1], [1, -1]], np.float32))
assert list(labels) == ["agree", "differ"], labels
print("smoke test passed:", result)
