"""What is a diamond worth? Regression on a real table, beside a linear baseline."""

import argparse
import csv
import lzma
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import dlcore as dl
from dlcore import data, nn, optim, schedule

HERE = Path(__file__).parent
NUMBERS = ["carat", "depth", "table", "x", "y", "z"]
GRADES = {
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
    "color": list("JIHGFED"),
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}
COLUMNS = NUMBERS + [f"{name}={grade}" for name, grades in GRADES.items() for grade in grades]


def encode(row: dict[str, str]) -> list[float]:
    """Numbers as they are; each grade as a column of its own, 0 or 1."""
    return [float(row[n]) for n in NUMBERS] + [float(row[n] == g) for n, grades in GRADES.items() for g in grades]


def judge(name: str, dollars: np.ndarray, truth: np.ndarray) -> str:
    """Mean absolute error and the part of the variance that is explained."""
    mae = np.abs(dollars - truth).mean()
    r2 = 1 - ((dollars - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    return f"{name:<16} mean absolute error ${mae:6,.0f}   R² {r2:.4f}"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--out", type=Path, default=HERE / "out")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
dl.seed(0)

print("1. Labelled data: diamonds and their prices")
with lzma.open(HERE / "data/diamonds.csv.xz", "rt", encoding="utf-8") as file:
    rows = [[*encode(row), float(row["price"])] for row in csv.DictReader(file)]
table = np.unique(np.array(rows), axis=0)  # a diamond listed twice could stand in training and test
x, y = table[:, :-1].astype(np.float32), np.log(table[:, -1:]).astype(np.float32)
same = np.unique(x, axis=0, return_inverse=True)[1].ravel()  # diamonds with equal columns stay on one side
train, test = data.ArrayDataset(x, y).split(test=0.2, seed=0, groups=same)
print(f"   {len(rows):,} rows, {len(table):,} different ones, {len(COLUMNS)} columns")
print(f"   {len(train):,} to learn from, {len(test):,} kept for the test")

print("\n2. Architecture: columns → logarithm of the price")
model = nn.Sequential(
    nn.Linear(len(COLUMNS), 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 64), nn.SiLU(),
    nn.Linear(64, 1),
)  # fmt: skip
model.summary((1, len(COLUMNS)))
x_train, y_train = train.column(0), train.labels
x_test, y_test = test.column(0), test.labels
model[-1].bias.assign(y_train.mean(axis=0))  # starts at the usual price

print("\n3. Training")
steps = args.epochs * -(-len(train) * 9 // 10 // 128)
trainer = dl.Trainer(
    model, loss=nn.HuberLoss(), optimizer=optim.AdamW(lr=schedule.one_cycle(4e-3, steps)),
    preprocess=data.Normalize().fit(train),
)  # fmt: skip
trainer.fit(train, epochs=args.epochs, batch_size=128, validation=0.1)

print(f"\n4. Test loss {trainer.evaluate(test)['loss']:.5f} (Huber, of log prices); in dollars:")
trainer.freeze().save(args.out / "diamonds.dlcore")
program = dl.load(args.out / "diamonds.dlcore")
truth = np.exp(y_test.astype(np.float64)).ravel()
dollars = np.exp(np.asarray(program.predict(x_test), np.float64)).ravel()
weights = np.linalg.lstsq(np.c_[x_train, np.ones(len(x_train))], np.exp(y_train), rcond=None)[0]
baseline = (np.c_[x_test, np.ones(len(x_test))] @ weights).ravel()
print("   " + judge("linear baseline", baseline, truth))
print("   " + judge("network", dollars, truth))

print(f"\n5. The frozen program, {args.out / 'diamonds.dlcore'}, on diamonds without a price")
for row, value, price in zip(x_test[:5], dollars, truth, strict=False):
    print(f"   {row[0]:.2f} carat: ${value:8,.0f}   (was sold for ${price:,.0f})")

figure, axes = plt.subplots(1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained")
for axis, name, values in zip(axes, ("linear baseline", "network"), (baseline, dollars), strict=True):
    axis.scatter(truth, np.maximum(values, 100), s=3, alpha=0.2, linewidths=0)
    axis.plot([300, 20000], [300, 20000], color="black", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="price ($)", ylabel="predicted ($)", title=judge(name, values, truth))
    axis.title.set_fontsize(9)
figure.savefig(args.out / "table-prices.png", dpi=120)
print(f"\nPicture: {args.out / 'table-prices.png'}")
