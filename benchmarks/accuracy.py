"""Whether Winograd's F(4x4) costs accuracy: the same network trained from the same seeds, once "fast", once "precise".

    python benchmarks/accuracy.py --data /usr/share/datasets/fashion-mnist [--model cnn] [--epochs 3] [--seeds 3]

The complete Fashion-MNIST (gzipped IDX files; Debian's dataset-fashion-mnist), test accuracy after each training.
A ResNet-18 takes most of an hour a pair on one core: with --record what is done is kept, and a later call goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np

import dlcore as dl
from dlcore import data, nn, optim, schedule

sys.path.insert(0, str(Path(__file__).parent))
from models import MODELS
from report import Table


def read(folder: Path, part: str, rows: int | None, channels: int, size: int) -> data.ArrayDataset:
    """Pictures as the model takes them: bytes, framed with zeros, the one channel repeated."""
    pictures = data.read_idx(folder / f"{part}-images-idx3-ubyte.gz")[:rows, None]
    frame = (size - pictures.shape[-1]) // 2
    pictures = np.pad(pictures, ((0, 0), (0, 0), (frame, frame), (frame, frame)))
    labels = data.read_idx(folder / f"{part}-labels-idx1-ubyte.gz")[:rows].astype(np.int64)
    return data.ArrayDataset(np.repeat(pictures, channels, 1), labels)


def accuracy(
    name: str, precision: str, seed: int, epochs: int, train: data.ArrayDataset, test: data.ArrayDataset
) -> float:
    dl.set_precision(precision)
    dl.seed(seed)
    model = next(m for m in MODELS if m.name == name).ours()
    batch = 64
    rate = schedule.one_cycle(2e-3, epochs * math.ceil(len(train) / batch))
    trainer = dl.Trainer(
        model, loss=nn.CrossEntropyLoss(), optimizer=optim.AdamW(lr=rate), metrics=["accuracy"],
        preprocess=data.Normalize().fit(train),
    )  # fmt: skip
    trainer.fit(train, epochs=epochs, batch_size=batch, seed=seed, verbose=False)
    return trainer.evaluate(test)["accuracy"]


def recorded(path: Path | None, wanted: dict[str, object]) -> dict[str, float] | None:
    """The pair of a run like this one, if the record has it."""
    lines = path.read_text().splitlines() if path and path.exists() else []
    return next((r for r in map(json.loads, lines) if wanted.items() <= r.items()), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of train-images-idx3-ubyte.gz and the others")
    parser.add_argument("--model", default="cnn", choices=["cnn", "resnet18"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="of each part (all)")
    parser.add_argument("--record", type=Path, help="JSON lines, one a pair: what stands in it is not trained again")
    parser.add_argument("--update", type=Path, help="write the table into this document, between its marks")
    args = parser.parse_args()
    channels, size = (3, 32) if args.model == "resnet18" else (1, 28)
    train, test = (read(args.data, part, args.rows, channels, size) for part in ("train", "t10k"))
    table = Table("model", "pictures", "epochs", "seed", "fast", "precise", "time")
    found = []
    for seed in range(args.seeds):
        key = {"model": args.model, "pictures": len(train), "epochs": args.epochs, "seed": seed}
        pair = recorded(args.record, key)
        if pair is None:
            begin = time.perf_counter()
            pair = {p: accuracy(args.model, p, seed, args.epochs, train, test) for p in ("fast", "precise")}
            pair["seconds"] = time.perf_counter() - begin
            if args.record:
                with args.record.open("a") as file:
                    file.write(json.dumps({**key, **pair}) + "\n")
        found.append((pair["fast"], pair["precise"]))
        table.row(*key.values(), *(f"{a:.2%}" for a in found[-1]), f"{pair['seconds']:.0f} s")
    means = np.mean(found, 0)
    table.row(args.model, len(train), args.epochs, "mean", *(f"{a:.2%}" for a in means), "")
    if args.update:
        table.write(args.update, f"accuracy-{args.model}")


if __name__ == "__main__":
    main()
