"""Whatever happens inside a transformation, the trace that was current before is current afterwards."""

import contextvars
import threading

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.core.trace import EVAL, current_trace
from fgrad.errors import EscapedTracerError

X = np.arange(1.0, 4.0)
TRANSFORMS = {
    "grad": lambda f: fgrad.grad(f)(X),
    "value_and_grad": lambda f: fgrad.value_and_grad(f)(X),
    "jit": lambda f: fgrad.jit(f)(X),
    "vmap": lambda f: fgrad.vmap(f)(X),
    "jvp": lambda f: fgrad.jvp(f, (X,), (X,)),
    "vjp": lambda f: fgrad.vjp(f, X),
    "linearize": lambda f: fgrad.linearize(f, X),
    "linear_transpose": lambda f: fgrad.linear_transpose(f, X),
    "make_jaxpr": lambda f: fgrad.make_jaxpr(f)(X),
    "eval_shape": lambda f: fgrad.eval_shape(f, X),
    "jit of grad of vmap": lambda f: fgrad.jit(fgrad.grad(lambda x: fnp.sum(fgrad.vmap(f)(x))))(X),
    "vmap of jit of jvp": lambda f: fgrad.vmap(fgrad.jit(lambda x: fgrad.jvp(f, (x,), (x,))))(X),
}


class Custom(Exception):
    pass


def boom(x):
    fnp.sin(x)
    raise Custom


def refused(x):
    return fnp.dot(fnp.stack([x, x]), fnp.ones((7, 7)))


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(("f", "error"), [(boom, Custom), (refused, (ValueError, TypeError))])
def test_after_an_exception_evaluation_is_current(name, f, error):
    with pytest.raises(error):
        TRANSFORMS[name](f)
    assert current_trace.get() is EVAL
    assert float(fnp.sum(fnp.asarray(X))) == 6


def test_an_exception_inside_leaves_the_outer_trace_current():
    seen = []

    def outer(x):
        mine = current_trace.get()
        for transform in TRANSFORMS.values():
            with pytest.raises(Custom):
                transform(boom)
            seen.append(current_trace.get() is mine)
        return fnp.sum(x * x)

    assert fgrad.grad(outer)(X).tolist() == [2, 4, 6]
    fgrad.jit(outer)(X)
    assert len(seen) == 2 * len(TRANSFORMS) and all(seen)


def test_a_thread_begins_with_evaluation():
    results = []

    def work():
        results.append(current_trace.get() is EVAL)
        results.append(float(fgrad.grad(lambda x: x * x)(3.0)))

    @fgrad.jit
    def f(x):
        t = threading.Thread(target=work)
        t.start()
        t.join()
        return fnp.sin(x)

    f(X)
    assert results == [True, 6.0]


def test_an_exception_in_a_thread_stays_there():
    def work():
        for transform in TRANSFORMS.values():
            with pytest.raises(Custom):
                transform(boom)
        done.append(current_trace.get() is EVAL)

    done: list[bool] = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert done == [True] * 4 and current_trace.get() is EVAL


def test_a_tracer_taken_to_another_thread_is_refused():
    """Its operations would be lost to the derivative."""
    caught = []

    def f(x):
        def work():
            with pytest.raises(EscapedTracerError):
                fnp.sin(x)
            caught.append(True)

        t = threading.Thread(target=work)
        t.start()
        t.join()
        return fnp.sum(x)

    fgrad.grad(f)(X)
    assert caught == [True]


def test_a_thread_given_the_context_takes_part():
    def f(x):
        out = []
        context = contextvars.copy_context()
        t = threading.Thread(target=lambda: context.run(lambda: out.append(fnp.sin(x))))
        t.start()
        t.join()
        return fnp.sum(out[0])

    np.testing.assert_allclose(np.asarray(fgrad.grad(f)(X)), np.cos(X))


def test_a_generator_left_half_way():
    def halves(x):
        yield fnp.sin(x)
        yield fnp.cos(x)

    def f(x):
        it = halves(x)
        return next(it)

    fgrad.jit(f)(X)
    assert current_trace.get() is EVAL


def test_a_block_that_ends_late_leaves_the_current_trace_alone():
    """A generator that is dropped half-way ends its blocks when it is collected: here, inside of another trace."""

    def half():
        with fgrad.debug_nans(True):
            yield

    dropped = [half()]
    next(dropped[0])
    current_trace.set(EVAL)

    def f(x):
        y = 2 * x
        dropped.clear()
        return fnp.sum(y * x)

    assert fgrad.grad(f)(np.ones(2)).tolist() == [4, 4]
