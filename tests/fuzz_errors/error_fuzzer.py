"""The fuzzer: calls that reach new branches of fgrad are kept and changed further.

    python error_fuzzer.py --calls 20000 --seed 0

Runs in a process of its own, with bounded memory; before each call it writes the call to ``--last``, so that a crash
can be named.  Prints what it found, one finding a place in the code, as JSON lines.
"""

import argparse
import inspect
import itertools
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from error_calls import Call, part, paths
from error_mutations import mutated
from error_targets import FUNCTIONS, SEEDS, WRAPPED
from error_verdict import FGRAD, Outcome, verdict

from fgrad.kernels.cpu.library import LibraryKernel

MEMORY = 3 << 30  # bytes of addresses
KEPT = 64  # calls kept for a function
# Each form of these calls compiles a program, those of the gamma family for a second: fuzzed less often.
SHARES = {
    **{t: 0.2 for t in SEEDS if t.startswith(("random.", "nn.initializers.", "nn.dropout"))},
    **{f"random.{n}": 0.02 for n in (
        "ball", "beta", "binomial", "chisquare", "dirichlet", "f", "gamma", "generalized_normal", "loggamma",
        "multinomial", "poisson", "t")},
}  # fmt: skip
CHECKED = tuple(f"{FGRAD}{part}" for part in ("compiler", "kernels"))  # their code sees arguments that were checked
Arc = tuple[int, int, int]


class Coverage:
    """The arcs (code, line, next line) run inside fgrad while it is on, but for the compiler and the kernels."""

    def __init__(self) -> None:
        self.arcs: set[Arc] = set()
        self._ours: dict[CodeType, bool] = {}

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_filename.startswith(FGRAD) and not code.co_filename.startswith(CHECKED)
        if not ours:
            return None
        number, last, add = id(code), frame.f_lineno, self.arcs.add

        def inside(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last
            if event == "line":
                line = frame.f_lineno
                add((number, last, line))
                last = line
            return inside

        return inside

    def __enter__(self) -> "Coverage":
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """None of its lines would count, and Numba takes twice as long under a trace."""

    def call(*args: Any) -> Any:
        trace = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args)
        finally:
            sys.settrace(trace)

    return call


LibraryKernel.text = _untraced(LibraryKernel.text)


class Fuzzer:
    def __init__(self, seed: int, targets: list[str]):
        self.random = random.Random(seed)
        self.targets = targets
        self.weights = list(itertools.accumulate(SHARES.get(t, 1.0) for t in targets))
        self.corpus = {t: list(SEEDS[t]) for t in targets}
        self.coverage = Coverage()
        self.findings: dict[str, tuple[str, int]] = {}  # what -> (the first such call, how many)
        self.calls = 0
        self._everything = [c for calls in SEEDS.values() for c in calls]
        self._signatures = {t: signature_of(t) for t in targets}

    def another(self) -> Any:
        """A part of the arguments of some call."""
        items = self.random.choice(self._everything).items()
        where = [p for p in paths(items) if len(p) > 1]
        return part(items, self.random.choice(where)) if where else None

    def run(self, c: Call) -> Outcome:
        before = len(self.coverage.arcs)
        with self.coverage:
            outcome = verdict(c, FUNCTIONS[c.target])
        finding = outcome.finding
        self.calls += 1
        if finding is not None:
            what = finding.split(", got ")[0]
            first, n = self.findings.get(what, (f"{c}\n    {finding}", 0))
            self.findings[what] = (first, n + 1)
        elif len(self.coverage.arcs) > before and self.calls > len(self._everything):
            kept = self.corpus[c.target]
            if len(kept) < KEPT:
                kept.append(c)
            else:
                kept[self.random.randrange(len(SEEDS[c.target]), KEPT)] = c
        return outcome

    def next(self) -> Call:
        target = self.random.choices(self.targets, cum_weights=self.weights)[0]
        return mutated(self.random.choice(self.corpus[target]), self.random, self.another, self._signatures[target])


def signature_of(target: str) -> inspect.Signature | None:
    if target in WRAPPED:
        return None
    try:
        return inspect.signature(FUNCTIONS[target])
    except (TypeError, ValueError):
        return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--only", default="", help="functions whose name has this in it")
    parser.add_argument("--last", default=os.devnull)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    sys.setrecursionlimit(1000)

    fuzzer = Fuzzer(options.seed, [t for t in SEEDS if options.only in t])
    end = time.monotonic() + options.seconds
    with open(options.last, "w", encoding="utf-8") as last:

        def run(c: Call) -> Outcome:
            text = str(c).encode("utf-8", "replace")[:20_000] + b"\n"
            os.pwrite(last.fileno(), text + b"\0" * 64, 0)
            return fuzzer.run(c)

        refused = [str(c) for calls in SEEDS.values() for c in calls if c.target in fuzzer.corpus and run(c).error]
        while fuzzer.calls < options.calls and time.monotonic() < end:
            run(fuzzer.next())
    for what, (first, n) in fuzzer.findings.items():
        print(json.dumps({"what": what, "times": n, "call": first}))
    print(json.dumps({"refused": refused}))
    kept = sum(map(len, fuzzer.corpus.values()))
    print(json.dumps({"calls": fuzzer.calls, "arcs": len(fuzzer.coverage.arcs), "kept": kept,
                      "functions": len(fuzzer.targets)}))  # fmt: skip


if __name__ == "__main__":
    main()
