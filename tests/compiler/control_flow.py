"""Loops and branches as primitives of their own, for tests of the compiler, and NumPy's reading of a program."""

import numpy as np

from fgrad.core.array import lift
from fgrad.core.backends import Alias, Branch, ForLoop, ForParts, Host, Unfilled, WhileLoop, WhileParts
from fgrad.core.jaxpr import Literal
from fgrad.core.primitive import Primitive
from fgrad.transforms.stage import inline_consts, stage

NONE = Unfilled("these primitives are for tests of the compiler")
RULES = {"cuda": NONE, "jvp": NONE, "transpose": NONE, "batch": NONE}


def interpret(closed, *arrays):
    """The outputs by each equation's NumPy reference."""
    env = dict(zip(closed.jaxpr.constvars, map(np.asarray, closed.consts)))
    env.update(zip(closed.jaxpr.invars, arrays))

    def read(a):
        return np.asarray(a.val) if isinstance(a, Literal) else env[a]

    for eqn in closed.eqns:
        with np.errstate(all="ignore"):
            out = eqn.primitive.reference(*map(read, eqn.invars), **eqn.params)
        env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else (np.asarray(out),)))
    return [read(v) for v in closed.jaxpr.outvars]


def _primitive(name, abstract, reference, cpu, **kwargs):
    return Primitive(name, abstract=abstract, reference=reference, cpu=cpu, multiple_results=True, **RULES, **kwargs)


# --- for -------------------------------------------------------------------------------------------------------------
def _for_abstract(*avals, body, n_consts, n_carry, length, reverse):
    outs = body.out_avals
    return (*outs[:n_carry], *(a.update(shape=(length, *a.shape)) for a in outs[n_carry:]))


def _for_reference(*arrays, body, n_consts, n_carry, length, reverse):
    consts, carry, xs = arrays[:n_consts], arrays[n_consts : n_consts + n_carry], arrays[n_consts + n_carry :]
    rows = [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        out = interpret(body, *consts, *carry, *(x[t] for x in xs))
        carry, rows[t] = out[:n_carry], out[n_carry:]
    ys = [
        np.stack([row[k] for row in rows]) if rows else np.empty((0, *a.shape), a.dtype)
        for k, a in enumerate(body.out_avals[n_carry:])
    ]
    return [*carry, *ys]


for_p = _primitive("test_for", _for_abstract, _for_reference, ForLoop(ForParts, lambda values, **p: 1 / 0))


def avals_of(values):
    return [lift(v).aval.strong() if not hasattr(v, "aval") else v.aval.strong() for v in values]


def loop(f, carry, xs=(), length=None, reverse=False):
    """f(carry tuple, x tuple) -> (carry tuple, y tuple); returns (carry, ys)."""
    carry, xs = [lift(c) for c in carry], [lift(x) for x in xs]
    length = xs[0].shape[0] if length is None else length
    n = len(carry)
    avals = [*avals_of(carry), *(a.update(shape=a.shape[1:]) for a in avals_of(xs))]

    def flat(*args):
        new, ys = f(args[:n], args[n:])
        return [*new, *ys]

    body = stage(flat, avals, name="loop")
    hoisted = inline_consts(body)
    params = {"n_consts": len(body.consts), "n_carry": n, "length": length, "reverse": reverse}
    out = for_p.bind(*body.consts, *carry, *xs, body=hoisted, **params)
    return tuple(out[:n]), tuple(out[n:])


# --- while -----------------------------------------------------------------------------------------------------------
def _while_reference(*arrays, cond, n_cond_consts, body, n_body_consts):
    n = n_cond_consts + n_body_consts
    carry = arrays[n:]
    while interpret(cond, *arrays[:n_cond_consts], *carry)[0]:
        carry = interpret(body, *arrays[n_cond_consts:n], *carry)
    return list(carry)


while_p = _primitive(
    "test_while",
    lambda *avals, body, **_: body.out_avals,
    _while_reference,
    WhileLoop(WhileParts, lambda values, **p: 1 / 0),
)


def repeat(cond, f, carry):
    """carry = f(*carry) while cond(*carry)."""
    carry = [lift(c) for c in carry]
    avals = avals_of(carry)
    test = stage(lambda *c: [cond(*c)], avals, name="while")
    body = stage(lambda *c: list(f(*c)), avals, name="while")
    params = {"n_cond_consts": len(test.consts), "n_body_consts": len(body.consts)}
    ins = (*test.consts, *body.consts, *carry)
    return tuple(while_p.bind(*ins, cond=inline_consts(test), body=inline_consts(body), **params))


# --- branches --------------------------------------------------------------------------------------------------------
branch_p = _primitive(
    "test_branch",
    lambda *avals, branches: branches[0].out_avals,
    lambda index, *arrays, branches: interpret(branches[int(index)], *arrays),
    Branch(lambda *, branches: branches, lambda values, **p: 1 / 0),
)


def choose(index, branches, *operands):
    """branches[index](*operands), each returning a tuple; closures must not hold tracers."""
    operands = [lift(x) for x in operands]
    closed = [stage(lambda *xs, b=b: list(b(*xs)), avals_of(operands), name="branch") for b in branches]
    return tuple(branch_p.bind(index, *operands, branches=tuple(closed)))


# --- identities and host calls ---------------------------------------------------------------------------------------
alias_p = _primitive("test_alias", lambda *avals: avals, lambda *xs: list(xs), Alias())

seen = []


def _note(x, *, tag):
    seen.append((tag, x.tolist(), x.flags.writeable))
    if tag == "fail" and x.ravel()[0] > 2:
        raise KeyError("too large")
    return [x + 1]


note_p = _primitive("test_note", lambda x, *, tag: (x,), _note, Host("for its effect"), effectful=True)


def note(x, tag):
    return note_p.bind(x, tag=tag)[0]


def _python(*xs, function):
    return [np.asarray(function(*xs), xs[0].dtype)]


python_p = _primitive("test_python", lambda *xs, function: (xs[0],), _python, Host("Python"))


def python(function, *xs):
    """function of NumPy arrays; the result has the first one's type."""
    return python_p.bind(*xs, function=function)[0]
