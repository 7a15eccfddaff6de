"""From labelled pictures to a program: a convolutional network on Fashion-MNIST.

python examples/vision.py                  12,000 pictures that come with the repository
python examples/vision.py --data FOLDER    the complete set: 60,000 pictures and its own test file (gzipped IDX files)
"""

import argparse
import math
import subprocess
import sys
from pathlib import Path

import numpy as np

import dlcore as dl
from dlcore import data, nn, optim, schedule

HERE = Path(__file__).parent
CLASSES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"]
LOAD_AND_PREDICT = """
import sys, numpy, dlcore
program = dlcore.load(sys.argv[1])
print(", ".join(str(name) for name in program.predict(numpy.load(sys.argv[2]))))
"""


def read(images: Path, labels: Path) -> data.ArrayDataset:
    """Pictures as (count, 1, 28, 28), brightness 0 to 255."""
    pictures = data.read_idx(images)[:, None].astype(np.float32)
    return data.ArrayDataset(pictures, data.read_idx(labels).astype(np.int64), classes=CLASSES)


def block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, help="folder of train-images-idx3-ubyte.gz and the three other files")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--threads", type=int, help="how many threads to use (default: all that this process may)")
parser.add_argument("--out", type=Path, default=HERE / "out", help="folder for pictures and program")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
if args.threads:
    dl.set_num_threads(args.threads)
dl.seed(0)

print("1. Labelled data, and what is kept for testing")
if args.data:
    train = read(args.data / "train-images-idx3-ubyte.gz", args.data / "train-labels-idx1-ubyte.gz")
    test = read(args.data / "t10k-images-idx3-ubyte.gz", args.data / "t10k-labels-idx1-ubyte.gz")
else:
    whole = read(HERE / "data/fashion-images-idx3-ubyte.xz", HERE / "data/fashion-labels-idx1-ubyte.xz")
    train, test = whole.split(test=1 / 6, seed=0)
print(f"   {len(train):,} pictures of {len(CLASSES)} classes to learn from; {len(test):,} kept for the test")

print("\n2. Architecture")
model = nn.Sequential(
    *block(1, 32), *block(32, 64), *block(64, 128),
    nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 3 * 3, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
)  # fmt: skip
model.summary((1, 1, 28, 28))

print("\n3. Training (a tenth of the training data is set aside to watch progress)")
batch = 128 if args.data else 64
steps = args.epochs * math.ceil(0.9 * len(train) / batch)
trainer = dl.Trainer(
    model, loss=nn.CrossEntropyLoss(), optimizer=optim.AdamW(lr=schedule.one_cycle(4e-3, steps)),
    metrics=["accuracy"], preprocess=data.Normalize().fit(train),
)  # fmt: skip
history = trainer.fit(train, epochs=args.epochs, batch_size=batch, validation=0.1)

print("\n4. Test on pictures that it has never seen")
result = trainer.evaluate(test)
print(f"   test loss {result['loss']:.4f}, accuracy {result['accuracy']:.2%}")

print("\n5. Frozen: the function without the scaffolding, in one file without code")
program = trainer.freeze()
path = args.out / "fashion.dlcore"
program.save(path)
print(f"   {path} ({path.stat().st_size / 2**20:.2f} MiB)")

print("\n6. A new process loads the file and names 10 pictures without labels")
pictures, labels = test.column(0), test.labels
np.save(args.out / "unlabelled.npy", pictures[:10])
sys.stdout.flush()
subprocess.run([sys.executable, "-c", LOAD_AND_PREDICT, path, args.out / "unlabelled.npy"], check=True)
print(f"   in truth: {', '.join(CLASSES[label] for label in labels[:10])}")

names = np.array(CLASSES)
picture = args.out / "vision.png"
dl.plots.prediction_grid(pictures[:40], program.predict(pictures[:40]), names[labels[:40]], picture, history)
print(f"\nPicture: {picture}")
