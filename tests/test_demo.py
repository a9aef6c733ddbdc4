"""examples/train_cnn.py: what it prints and writes, and what it says to mistakes."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "examples" / "train_cnn.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("train_cnn", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_cnn"] = module
    spec.loader.exec_module(module)
    return module


def test_a_short_run(demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)  # plain lines
    picture = tmp_path / "digits.png"
    share = demo.main(["--steps", "120", "--out", str(picture), "--seed", "1"])
    text = capsys.readouterr().out
    assert share > 0.8
    assert "1,438 training and 359 test images of 8x8 pixels" in text
    assert "step 120 of 120: loss" in text and f"test accuracy  {share:.2%}" in text and "a step" in text
    backward = text[text.index("{ lambda") : text.index("test accuracy  ")]
    assert "rev[dimensions=(0,1)]" in backward and backward.count("conv_general_dilated[") == 2
    if importlib.util.find_spec("matplotlib"):
        assert picture.stat().st_size > 20_000
    else:
        assert "needs matplotlib: pip install 'fgrad[demo]'" in text


def test_shifts_move_images(demo):
    images = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4, 1) + 1
    moved = {demo.shifted(images, np.random.default_rng(seed))[0, :, :, 0].tobytes() for seed in range(60)}
    padded = np.pad(images[0, :, :, 0], 1)
    assert moved == {padded[i : i + 4, j : j + 4].tobytes() for i in range(3) for j in range(3)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], "--data mnist needs --data-dir: the folder with MNIST's four IDX files"),
        (["--data", "mnist", "--data-dir", "no/such"], "--data-dir: no/such is not a folder"),
        (["--steps", "0"], "argument --steps: must be at least 1, got 0"),
    ],
)
def test_mistakes(demo, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_an_empty_folder(demo, tmp_path):
    with pytest.raises(SystemExit, match="load_mnist: found no train-images"):
        demo.main(["--data", "mnist", "--data-dir", str(tmp_path)])


@pytest.mark.long
def test_reaches_98_percent(tmp_path):
    out = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path / "d.png")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout
    share = float(out.split("test accuracy  ")[-1].split("%")[0])
    assert share >= 98.0
