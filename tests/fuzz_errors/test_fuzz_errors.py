"""No input reaches an internal error: coverage-guided fuzzing of every public function's checks of its arguments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import error_verdict
import numpy as np
import pytest
from error_calls import call
from error_targets import NOT_CALLED, SEEDS, public
from error_verdict import FGRAD, verdict

from fgrad.core.trace import EVAL, current_trace

FOLDER = Path(__file__).resolve().parent
REFUSED = ("Array.__setitem__(", "Array.__hash__(")  # all that these do is to say why not


def fuzz(tmp_path, **options):
    """What the fuzzer prints; it runs in a process of its own, which a crash or a lack of memory ends."""
    last = tmp_path / "last"
    arguments = [f"--{name}={value}" for name, value in options.items()]
    run = subprocess.run(
        [sys.executable, str(FOLDER / "error_fuzzer.py"), f"--last={last}", *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    assert run.returncode == 0, f"{run.stderr[-3000:]}\nthe last call: {last.read_text().partition(chr(0))[0]}"
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    found = [row for row in rows if "what" in row]
    assert not found, "\n\n".join(f"{row['times']} times: {row['call']}" for row in found)
    return {name: value for row in rows for name, value in row.items()}


def test_every_public_function_has_a_seed():
    functions = dict(public())
    seeded = {id(functions[name]) for name in SEEDS if name in functions}  # under one of its names
    missing = [n for n, f in functions.items() if n not in SEEDS and n not in NOT_CALLED and id(f) not in seeded]
    assert not missing, f"valid calls are missing (error_seeds_*.py): {missing}"


def test_a_short_run(tmp_path):
    result = fuzz(tmp_path, calls=1000)
    assert all(c.startswith(REFUSED) for c in result["refused"]), result["refused"]  # every other seed is a valid call
    assert result["arcs"] > 6500


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_long_run(tmp_path, seed):
    assert fuzz(tmp_path, calls=50_000, seed=seed)["calls"] == 50_000


# --- the verdict, on functions that are at fault ---------------------------------------------------------------------
def planted(body):
    """A function that says it is fgrad's."""
    names = {"np": np, "EVAL": EVAL, "current_trace": current_trace}
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    exec(compile(f"def planted(x, *more):\n{lines}", f"{FGRAD}lax/planted.py", "exec"), names)
    return names["planted"]


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ("x.shape[7]", "IndexError at lax/planted.py:2 in planted: tuple index out of range"),
        ("x.nothing", "AttributeError at lax/planted.py:2"),
        ("np.reshape(x, (5, 5))", "ValueError at "),
        ("np.float32(1e30) * np.float32(1e30)", "RuntimeWarning at lax/planted.py:2"),
        ("assert x is None", "kind of error: AssertionError at lax/planted.py:2"),
        ("raise KeyError", "form of message: KeyError"),
        ("raise ValueError('something is wrong')", "form of message: ValueError"),
        ("raise RuntimeError('add: no')", "kind of error: RuntimeError"),
        ("return planted(x)", "RecursionError at lax/planted.py:2"),
        ("x[0] = 7", "an argument was changed"),
        ("current_trace.set(current_trace.get().__class__('forgotten', None))", "the trace forgotten is still current"),
        ("while True: pass", "no end after 0.1 s"),
    ],
)
def test_the_verdict_finds(monkeypatch, body, finding):
    monkeypatch.setattr(error_verdict, "SECONDS", 0.1)
    found = verdict(call(np.ones(3)), planted(body)).finding
    assert found is not None and found.startswith(finding)


@pytest.mark.parametrize(
    "body",
    [
        "return x",
        "raise ValueError('add: shapes must be equal, got (2,) and (3,). Reshape one.')",
        "raise TypeError(\n    'dot_general: axes must be integers, got None. Use int(...).'\n)",
    ],
)
def test_the_verdict_accepts(body):
    assert verdict(call(np.ones(3)), planted(body)).finding is None
