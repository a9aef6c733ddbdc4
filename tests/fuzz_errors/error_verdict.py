"""What may come of a call: a result, or an error that fgrad (or the user's own function) raises on purpose."""

import contextlib
import contextvars
import dis
import io
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import error_functions
import error_mutations
from error_calls import Call, part, paths, perform, snapshot
from error_targets import FUNCTIONS

import fgrad
from fgrad.core.trace import EVAL, current_trace
from fgrad.errors import FgradError

SECONDS = 20  # for a call; one that takes longer hangs

FGRAD = str(Path(fgrad.__file__).resolve().parent) + "/"
HERE = str(Path(__file__).resolve().parent) + "/"
RAISE = dis.opmap["RAISE_VARARGS"]
FORM = re.compile(r"[\w. \[\]=']+: .+", re.DOTALL)  # <operation>: <constraint>, got <values>. <what to do>
SIGNATURE = re.compile(r"(?:[\w<>]+\.)*(\w+)\(\) (?:missing|takes|got|expected|argument)")
BUILTIN = re.compile(
    r"\w+\(\) (takes|argument|missing)|.* is an invalid keyword|cannot create|\w+ takes no arg|"
    r"function takes|\w+ expected|only 0-dim|only length-1"
)  # what a type of C's, given as a function, says
KINDS = (TypeError, ValueError, LookupError, OverflowError, FgradError)


class Hang(BaseException):
    """A call did not come to an end."""


def _alarm(signum: int, frame: Any) -> None:
    raise Hang


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises Hang in what is run, after so much time of processors, which a busy machine does not use up; needs the
    main thread.
    """
    before = signal.signal(signal.SIGPROF, _alarm)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Outcome(NamedTuple):
    """finding: what is wrong, and where; None if the call does what it may.  error: what it raised."""

    finding: str | None
    error: Exception | None = None


def verdict(c: Call, function: Callable[..., Any]) -> Outcome:
    """Makes the call and judges what comes of it."""
    before = snapshot(c.items())
    with time_limit(SECONDS), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("error")
        outcome = contextvars.copy_context().run(_outcome, c, function)
    if outcome.finding is None and snapshot(c.items()) != before:
        return Outcome("an argument was changed")
    return outcome


def _outcome(c: Call, function: Callable[..., Any]) -> Outcome:
    try:
        perform(function, c)
        outcome = Outcome(None)
    except Exception as e:
        outcome = Outcome(wrong_error(e, c), e)
    except Hang:
        outcome = Outcome(f"no end after {SECONDS} s")
    if current_trace.get() is not EVAL:
        return Outcome(f"the trace {current_trace.get().name} is still current")
    return outcome


def wrong_error(e: Exception, c: Call) -> str | None:
    """None if the error is one that users may see."""
    tb = e.__traceback__
    assert tb is not None
    while tb.tb_next is not None:
        tb = tb.tb_next
    name, text = tb.tb_frame.f_code.co_filename, str(e)
    if name == error_functions.__file__ or isinstance(e, error_functions.UsersOwn):
        return None
    signature = SIGNATURE.match(text) if type(e) is TypeError else None
    if signature and signature[1] in NAMES:
        return None
    if type(e) is TypeError and _has_builtin(c) and BUILTIN.match(text):
        return None
    if isinstance(e, MemoryError) and (text.startswith("Unable to allocate") or name.startswith(HERE)):
        return None  # the arguments are sound: a machine with more memory would answer
    described = f"{type(e).__name__} at {_place(tb)}: {text[:300]}"
    if isinstance(e, OSError) and c.target.startswith("datasets."):
        return None
    if name.startswith(HERE):  # the line of the call: operators and builtins (int, round) say what they do not take
        return None if type(e) in (TypeError, ValueError) else described
    if not name.startswith(FGRAD):
        return described
    if tb.tb_frame.f_code.co_code[tb.tb_lasti] != RAISE:
        return described
    if not isinstance(e, KINDS) or type(e).__module__ not in ("builtins", "fgrad.errors"):
        return f"kind of error: {described}"
    return None if FORM.match(text) else f"form of message: {described}"


def _has_builtin(c: Call) -> bool:
    """Whether an argument is a type that is written in C: it may have been taken for a user's function."""
    parts = [part(c.items(), p) for p in paths(c.items())]
    return any(isinstance(x, type) and x.__module__ in ("builtins", "numpy") for x in parts)


def _callable_names() -> set[str]:
    """Names that Python's own TypeError for a wrong signature may give: public functions and users'."""
    users = [n for module in (error_functions, error_mutations) for n, v in vars(module).items() if callable(v)]
    wrappers = ["call_method", "call_update", "one_step", "pull_back", "push_forward", "pretty", "traced"]
    return {*(t.rpartition(".")[2] for t in FUNCTIONS), *users, *wrappers, "__init__", "__new__", "__call__"}


NAMES = _callable_names()


def _place(tb: TracebackType) -> str:
    name = tb.tb_frame.f_code.co_filename
    return f"{name.removeprefix(FGRAD)}:{tb.tb_lineno} in {tb.tb_frame.f_code.co_name}"
