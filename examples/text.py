"""A character Transformer learns to write like Shakespeare: a training loop of one's own, and a frozen program."""

import argparse
import lzma
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import dlcore as dl
from dlcore import data, nn, optim

HERE = Path(__file__).parent
WINDOW, WIDTH, BATCH = 64, 128, 12


class Writer(nn.Module):
    """Tokens (rows, time) → scores (rows, time, vocabulary) of the character that comes next."""

    def __init__(self, vocabulary: int) -> None:
        self.token, self.position = nn.Embedding(vocabulary, WIDTH), nn.Embedding(WINDOW, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 4, nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, tokens: dl.Tensor) -> dl.Tensor:
        x = self.token(tokens) + self.position(dl.arange(tokens.shape[1]))
        return self.head(self.layers(x, is_causal=True))


def score(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
    return nn.functional.cross_entropy(model(x).reshape(-1, vocabulary), y.reshape(-1))


def batch(tokens: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Windows that begin at `starts`, and the same windows one character later."""
    windows = tokens[starts[:, None] + np.arange(WINDOW + 1)]
    return windows[:, :-1], windows[:, 1:]


def held_out_loss(count: int) -> float:
    """Mean loss over `count` batches spread evenly over the held-out text."""
    starts = np.linspace(0, len(held_out) - WINDOW - 1, count * BATCH).astype(int).reshape(count, BATCH)
    return float(np.mean([evaluate(*batch(held_out, s)).item() for s in starts]))


def write(program: dl.Program, prompt: str, count: int, temperature: float) -> str:
    ids = [int(i) for i in tokenizer.encode(prompt)]
    for _ in range(count):
        seen = ids[-WINDOW:]
        window = np.zeros((1, WINDOW), np.int64)  # what stands after the text cannot be seen by it
        window[0, : len(seen)] = seen
        scores = np.asarray(program.run(window))[0, len(seen) - 1].astype(np.float64) / temperature
        chances = np.exp(scores - scores.max())
        ids.append(int(rng.choice(vocabulary, p=chances / chances.sum())))
    return str(tokenizer.decode(ids))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--prompt", default="HAMLET.\nTo be, or not to be")
parser.add_argument("--temperature", type=float, default=0.8)
parser.add_argument("--out", type=Path, default=HERE / "out")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
dl.seed(0)
rng = np.random.default_rng(0)
text = lzma.decompress((HERE / "data/shakespeare.txt.xz").read_bytes()).decode()
tokenizer = data.CharTokenizer(text)
tokens, vocabulary = tokenizer.encode(text), len(tokenizer)
train, held_out = np.split(tokens, [int(0.9 * len(tokens))])
print(f"1. Text: {len(text):,} characters of {vocabulary} kinds; the last {len(held_out):,} are kept for testing\n")
model, optimizer = Writer(vocabulary), optim.AdamW(lr=1e-3)
model.summary((BATCH, WINDOW), dtype="int64")
step, evaluate = dl.train_step(model, optimizer)(score), dl.compile(score)
losses, tests = [], [(0, held_out_loss(10))]
columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
with Progress(*columns) as bar:
    task = bar.add_task("training", total=args.steps)
    for n in range(1, args.steps + 1):
        losses.append(step(*batch(train, rng.integers(0, len(train) - WINDOW, BATCH))).item())
        bar.update(task, advance=1, description=f"loss {losses[-1]:.3f}, held out {tests[-1][1]:.3f}")
        if n % 200 == 0 or n == args.steps:
            tests.append((n, held_out_loss(10)))
            bar.console.print(f"step {n}: loss {np.mean(losses[-200:]):.4f}, held out {tests[-1][1]:.4f}")
print(f"\nHeld-out loss, all of it: {held_out_loss(len(held_out) // (BATCH * WINDOW)):.4f} nats a character")
dl.freeze(model, example=np.zeros((1, WINDOW), np.int64)).save(args.out / "shakespeare.dlcore")
print(f"Frozen program: {args.out / 'shakespeare.dlcore'}. It writes:\n")
print(write(dl.load(args.out / "shakespeare.dlcore"), args.prompt, 400, args.temperature))
figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
axes.plot(range(1, len(losses) + 1), losses, color="0.75", label="training, each batch")
axes.plot(*zip(*tests, strict=True), "o-", color="C3", label="held-out text")
axes.set(xlabel="step", ylabel="loss (nats a character)", title="A character Transformer on Shakespeare")
axes.legend()
figure.savefig(args.out / "text-curves.png", dpi=120)
print(f"\nPicture: {args.out / 'text-curves.png'}")
