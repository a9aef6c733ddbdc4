"""Trains a small convolutional network on handwritten digits, in plain ``jit(value_and_grad(loss))`` style.

    python examples/train_cnn.py                                    the 8x8 digits that ship with fgrad
    python examples/train_cnn.py --data mnist --data-dir DIR        MNIST, from its four IDX files in DIR

It prints the test accuracy, the time of a training step and the jaxpr of the first convolution's backward pass, and
draws the loss, the accuracy, the learnt filters and the confusion matrix into one picture.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, nn, optim, random
from fgrad.datasets import load_digits, load_mnist, train_test_split

Params = dict[str, Any]


class Data(NamedTuple):
    """Images float32 [N, H, W, 1] and labels int32 [N]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Settings(NamedTuple):
    """What differs between the two data sets; a width is a number of channels."""

    first: int
    second: int
    hidden: int
    epochs: int
    batch_size: int
    learning_rate: float


SETTINGS = {
    "digits": Settings(first=16, second=32, hidden=64, epochs=40, batch_size=64, learning_rate=4e-3),
    "mnist": Settings(first=32, second=64, hidden=128, epochs=5, batch_size=128, learning_rate=2e-3),
}


# --- the model -------------------------------------------------------------------------------------------------------
def init_params(key: Any, s: Settings, image_size: int) -> Params:
    """conv 3x3, relu, conv 3x3, relu, max_pool 2x2, dense, relu, dense to 10 classes."""
    pooled = (image_size - 4) // 2 if image_size > 8 else image_size // 2
    shapes = {
        "conv1": (3, 3, 1, s.first),
        "conv2": (3, 3, s.first, s.second),
        "dense1": (pooled * pooled * s.second, s.hidden),
        "dense2": (s.hidden, 10),
    }
    he = nn.initializers.he_normal()
    keys = random.split(key, len(shapes))
    return {name: {"w": he(k, shape), "b": fnp.zeros(shape[-1])} for k, (name, shape) in zip(keys, shapes.items())}


def convolve(x: Any, layer: Params, padding: str) -> Any:
    """[N, H, W, C] with kernels [3, 3, C, D] to [N, H', W', D]."""
    y = lax.conv_general_dilated(x, layer["w"], (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + layer["b"]


def predict(params: Params, images: Any) -> Any:
    """Logits [N, 10] of images [N, H, W, 1]."""
    padding = "SAME" if images.shape[1] <= 8 else "VALID"  # 8x8 has no border to spare
    x = nn.relu(convolve(images, params["conv1"], padding))
    x = nn.relu(convolve(x, params["conv2"], padding))
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = x.reshape(x.shape[0], -1)
    x = nn.relu(x @ params["dense1"]["w"] + params["dense1"]["b"])
    return x @ params["dense2"]["w"] + params["dense2"]["b"]


def loss(params: Params, images: Any, labels: Any) -> Any:
    """The mean cross entropy of a batch."""
    return nn.softmax_cross_entropy_with_integer_labels(predict(params, images), labels).mean()


# --- training --------------------------------------------------------------------------------------------------------
def shifted(images: np.ndarray, rng: np.random.Generator, by: int = 1) -> np.ndarray:
    """Every image moved by -by to by pixels along each axis, zeros coming in."""
    n, h, w, _ = images.shape
    padded = np.pad(images, ((0, 0), (by, by), (by, by), (0, 0)))
    dy, dx = rng.integers(0, 2 * by + 1, (2, n, 1))
    rows, columns = dy + np.arange(h), dx + np.arange(w)
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def progress(steps: Iterable[int], total: int) -> Any:
    """A progress bar if tqdm is installed, else a line every tenth of the way."""
    try:
        from tqdm import tqdm
    except ImportError:
        return PlainProgress(steps, total)
    return tqdm(steps, total=total, unit="step", dynamic_ncols=True, file=sys.stdout)


class PlainProgress:
    """What of tqdm is needed here, in plain lines."""

    def __init__(self, steps: Iterable[int], total: int):
        self.steps, self.total, self.done, self.note = steps, total, 0, ""

    def __iter__(self):
        for step in self.steps:
            yield step
            self.done += 1
            if self.done % max(1, self.total // 10) == 0:
                print(f"step {self.done} of {self.total}: {self.note}", flush=True)

    def set_postfix_str(self, note: str, refresh: bool = True) -> None:
        self.note = note


class History(NamedTuple):
    """``losses``: one a step; ``accuracies``: (step, test accuracy), one an epoch; ``step_seconds``: one a step."""

    losses: list[float]
    accuracies: list[tuple[int, float]]
    step_seconds: list[float]


def train(data: Data, s: Settings, seed: int, steps: int | None) -> tuple[Params, Any, History]:
    """(parameters, the jitted ``predict``, what happened on the way)."""
    params = init_params(random.key(seed), s, data.train_images.shape[1])
    n = len(data.train_images)
    per_epoch = max(1, n // s.batch_size)
    total = s.epochs * per_epoch if steps is None else steps
    warmup = max(1, total // 20)
    rate = optim.warmup_cosine_decay_schedule(s.learning_rate / 10, s.learning_rate, warmup, max(total, warmup + 1))
    optimiser = optim.adam(rate)
    state = optimiser.init(params)

    @fgrad.jit
    def step(params, state, images, labels):
        value, gradients = fgrad.value_and_grad(loss)(params, images, labels)
        updates, state = optimiser.update(gradients, state, params)
        return optim.apply_updates(params, updates), state, value

    predict_jit = fgrad.jit(predict)
    rng = np.random.default_rng(seed)
    history = History([], [], [])
    order = np.empty(0, np.int64)
    bar = progress(range(total), total)
    for i in bar:
        if len(order) < s.batch_size:
            order = rng.permutation(n) if n >= s.batch_size else rng.integers(0, n, s.batch_size)
        batch, order = order[: s.batch_size], order[s.batch_size :]
        images, labels = shifted(data.train_images[batch], rng), data.train_labels[batch]
        start = time.perf_counter()
        params, state, value = step(params, state, images, labels)
        history.losses.append(float(value))
        history.step_seconds.append(time.perf_counter() - start)
        if (i + 1) % per_epoch == 0 or i + 1 == total:
            history.accuracies.append((i + 1, accuracy(predict_jit, params, data)))
        tested = f", test accuracy {history.accuracies[-1][1]:.2%}" if history.accuracies else ""
        bar.set_postfix_str(f"loss {history.losses[-1]:.4f}{tested}", refresh=False)
    return params, predict_jit, history


def classify(predict_jit: Any, params: Params, images: np.ndarray, batch: int = 1000) -> np.ndarray:
    """The most likely class of every image."""
    parts = [predict_jit(params, images[i : i + batch]) for i in range(0, len(images), batch)]
    return np.concatenate([np.asarray(p).argmax(-1) for p in parts])


def accuracy(predict_jit: Any, params: Params, data: Data) -> float:
    """The share of test images classified rightly."""
    return float((classify(predict_jit, params, data.test_images) == data.test_labels).mean())


# --- what the backward pass is ---------------------------------------------------------------------------------------
def backward_jaxpr(params: Params, images: np.ndarray) -> Any:
    """The first convolution's transposes: its cotangent to the cotangents of its input and of its kernel."""
    padding = "SAME" if images.shape[1] <= 8 else "VALID"

    def backward(x, w, cotangent):
        convolution = lambda x, w: convolve(x, {"w": w, "b": fnp.zeros(w.shape[-1])}, padding)  # noqa: E731
        return fgrad.vjp(convolution, x, w)[1](cotangent)

    w = params["conv1"]["w"]
    out = fgrad.eval_shape(lambda x, w: convolve(x, {"w": w, "b": fnp.zeros(w.shape[-1])}, padding), images, w)
    return fgrad.make_jaxpr(backward)(images, w, fnp.zeros(out.shape))


# --- the picture -----------------------------------------------------------------------------------------------------
def draw(path: Path, name: str, params: Params, history: History, confusion: np.ndarray) -> None:
    """Loss, accuracy, the first layer's filters and the confusion matrix, in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ink, blue, grid = "#24292f", "#2f6fb3", "#d9dee3"
    settings = {
        "font.size": 10,
        "axes.edgecolor": grid,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }
    with plt.rc_context(settings):
        figure = plt.figure(figsize=(12, 9), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.25))
        left, right = top.subplots(1, 2)
        _draw_curves(left, right, history, blue, grid)
        filters, matrix = bottom.subfigures(1, 2, width_ratios=(1, 1.1))
        _draw_filters(filters, np.asarray(params["conv1"]["w"]), ink)
        _draw_confusion(matrix.subplots(), confusion, ink)
        correct = np.trace(confusion) / confusion.sum()
        figure.suptitle(f"{name}: {correct:.2%} of {confusion.sum():,} test images classified rightly", fontsize=15)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _draw_curves(left: Any, right: Any, history: History, blue: str, grid: str) -> None:
    steps = np.arange(1, len(history.losses) + 1)
    losses = np.array(history.losses)
    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    left.plot(steps, losses, color=blue, alpha=0.25, linewidth=0.8, label="each step")
    left.plot(steps[window - 1 :], smooth, color=blue, linewidth=1.8, label=f"mean of {window}")
    left.set(title="Training loss", xlabel="step", yscale="log")
    left.legend(frameon=False)
    at, values = zip(*history.accuracies)
    right.plot(at, 100 * np.array(values), color=blue, linewidth=1.8, marker="o", markersize=3.5)
    right.set(title="Test accuracy", xlabel="step", ylabel="%")
    right.annotate(
        f"{values[-1]:.2%}", (at[-1], 100 * values[-1]), xytext=(0, -14), textcoords="offset points", ha="right"
    )
    for axes in (left, right):
        axes.grid(color=grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


def _draw_filters(figure: Any, w: np.ndarray, ink: str) -> None:
    count = w.shape[-1]
    columns = int(np.ceil(np.sqrt(count)))
    figure.suptitle("First layer's 3×3 filters", x=0.02, ha="left", fontweight="bold", fontsize=12, color=ink)
    largest = np.abs(w).max()
    grid = figure.subplots(-(-count // columns), columns, squeeze=False)
    for i, axes in enumerate(grid.flat):
        axes.axis("off")
        if i < count:
            axes.imshow(w[:, :, 0, i], cmap="RdBu", vmin=-largest, vmax=largest)


def _draw_confusion(axes: Any, confusion: np.ndarray, ink: str) -> None:
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*np.nonzero(confusion)):
        color = "white" if shares[i, j] > 0.4 else ink
        axes.text(j, i, confusion[i, j], ha="center", va="center", color=color, fontsize=9)
    axes.set(title="Confusion matrix", xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


# --- the command line ------------------------------------------------------------------------------------------------
def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", choices=tuple(SETTINGS), default="digits")
    parser.add_argument("--data-dir", type=Path, help="the folder with MNIST's four IDX files, gzipped or not")
    parser.add_argument("--epochs", type=positive, help="times through the training images")
    parser.add_argument("--steps", type=positive, help="training steps, in place of --epochs")
    parser.add_argument("--batch-size", type=positive)
    parser.add_argument("--seed", type=int, default=0, help="of the parameters and of the order of the images")
    parser.add_argument("--out", type=Path, default=None, help="the picture (default: DATA_cnn.png)")
    options = parser.parse_args(arguments)
    if options.data == "mnist" and options.data_dir is None:
        parser.error("--data mnist needs --data-dir: the folder with MNIST's four IDX files")
    if options.data_dir is not None and not options.data_dir.is_dir():
        parser.error(f"--data-dir: {options.data_dir} is not a folder")
    return options


def load(options: argparse.Namespace) -> Data:
    """The data set, split into training and test images; the digits' 20 % test images are always the same."""
    if options.data == "mnist":
        return Data(*load_mnist(options.data_dir))
    images, labels = load_digits()
    train_at, test_at = train_test_split(len(images), test_fraction=0.2, seed=0)
    return Data(images[train_at], labels[train_at], images[test_at], labels[test_at])


def main(arguments: list[str] | None = None) -> float:
    """Runs the example; the test accuracy."""
    options = parse_arguments(arguments)
    settings = SETTINGS[options.data]
    settings = settings._replace(
        epochs=options.epochs or settings.epochs, batch_size=options.batch_size or settings.batch_size
    )
    try:
        data = load(options)
    except (FileNotFoundError, ValueError) as e:
        sys.exit(str(e))
    print(
        f"{options.data}: {len(data.train_images):,} training and {len(data.test_images):,} test images of "
        f"{data.train_images.shape[1]}x{data.train_images.shape[2]} pixels"
    )
    start = time.perf_counter()
    params, predict_jit, history = train(data, settings, options.seed, options.steps)
    seconds = time.perf_counter() - start

    print("\nThe backward pass of the first convolution:\n")
    print(backward_jaxpr(params, data.train_images[: settings.batch_size]))

    predicted = classify(predict_jit, params, data.test_images)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (data.test_labels, predicted), 1)
    share = float(np.trace(confusion) / confusion.sum())
    print(f"\ntest accuracy  {share:.2%} ({np.trace(confusion):,} of {confusion.sum():,})")
    print(f"a step         {1e3 * np.median(history.step_seconds):.2f} ms (median; batch {settings.batch_size})")
    print(f"training       {seconds:.1f} s for {len(history.losses):,} steps, tests and compilation included")

    out = options.out or Path(f"{options.data}_cnn.png")
    name = {"digits": "UCI handwritten digits", "mnist": "MNIST"}[options.data]
    try:
        draw(out, name, params, history, confusion)
    except ImportError:
        print("picture        needs matplotlib: pip install 'fgrad[demo]'")
    else:
        print(f"picture        {out}")
    return share


if __name__ == "__main__":
    main()
