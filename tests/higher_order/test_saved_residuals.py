"""What a checkpoint stores: the policies, their answers, and the report of what is kept."""

import pytest
from checkpoint_programs import POLICIES, W, X, block, nested
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.ad_checkpoint import checkpoint_name, print_saved_residuals, saved_residuals
from fgrad.errors import UnhashableStaticError
from fgrad.higher_order import checkpoint_policies as policies
from fgrad.higher_order.checkpoint import checkpoint


def origins(f, *args):
    return sorted(origin.split(" at ")[0] for _, origin in saved_residuals(f, *args))


ARGUMENTS = ["from argument 'w' of block", "from argument 'x' of block"]


@pytest.mark.parametrize(
    ("policy", "stored"),
    [
        ("default", ARGUMENTS),
        ("nothing", ARGUMENTS),
        ("dots", [*ARGUMENTS, "output of dot_general"]),
        ("dots without batch", [*ARGUMENTS, "output of dot_general"]),
        ("only hidden", [*ARGUMENTS, "named 'hidden'"]),
        ("names but hidden", ARGUMENTS),
        ("dots and hidden", [*ARGUMENTS, "named 'hidden'", "output of dot_general"]),
    ],
)
def test_residuals_by_policy(policy, stored):
    assert origins(checkpoint(block, policy=POLICIES[policy]), W[0], X) == stored


def test_everything_is_what_is_stored_without():
    plain, saved = (
        saved_residuals(block, W[0], X),
        saved_residuals(checkpoint(block, policy=POLICIES["everything"]), W[0], X),
    )
    assert sorted(str(a) for a, _ in plain) == sorted(str(a) for a, _ in saved)
    assert len(plain) > 3


def test_a_name_is_also_that_of_the_value_it_was_given_to():
    """The derivative of exp reads its result, which has no name itself."""

    @checkpoint_of("e")
    def f(x):
        return fnp.sin(checkpoint_name(fnp.exp(x), "e"))

    def only_result(x):
        return checkpoint_name(fnp.exp(x), "e")

    assert origins(f, 1.0) == ["named 'e'"]
    assert origins(checkpoint_of("e")(only_result), 1.0) == ["named 'e'"]


def checkpoint_of(name):
    return checkpoint(policy=policies.save_only_these_names(name))


def test_policies_see_primitives_types_and_parameters():
    seen = []

    def policy(prim, *avals, **params):
        seen.append((str(prim), [str(a) for a in avals], sorted(params)))
        return False

    fgrad.grad(lambda w: checkpoint(block, policy=policy)(w, X).sum())(W[0])
    assert ("dot_general", ["f64[5,4]", "f64[4,4]"], ["dimension_numbers", "preferred_element_type"]) in seen


def test_residuals_of_nested_checkpoints_are_the_arguments():
    """The last block's input, and what the loss itself stores (2 h)."""
    assert origins(lambda w, x: nested(checkpoint)([w] * 3, x), W[0], X) == [
        "from argument 'w' of <lambda>",
        "from argument 'x' of <lambda>",
        "output of mul",
        "output of tanh",
    ]


def test_print_saved_residuals(capsys):
    print_saved_residuals(checkpoint(block), W[0], X)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == ["f64[4,4] from argument 'w' of block", "f64[5,4] from argument 'x' of block"]


def test_saved_residuals_take_shapes():
    a = fgrad.ShapeDtypeStruct((4, 4), "float32")
    assert len(saved_residuals(checkpoint(block), a, a)) == 2


@pytest.mark.parametrize(
    ("policy", "stored"),
    [
        ("plain", ["f64[6,4,4]", *["f64[6,5,4]"] * 4]),
        ("default", ["f64[6,4,4]", "f64[6,5,4]"]),
        ("dots", ["f64[6,4,4]", *["f64[6,5,4]"] * 3]),
        ("only hidden", ["f64[6,4,4]", *["f64[6,5,4]"] * 2]),
    ],
)
def test_a_checkpointed_body_of_a_scan_stores_its_carry(policy, stored):
    def step(c, w):
        return fnp.tanh(checkpoint_name(fnp.sin(c @ w), "hidden") @ w), None

    body = step if policy == "plain" else checkpoint(step, policy=POLICIES[policy])
    found = saved_residuals(lambda c, ws: lax.scan(body, c, ws)[0], X, fnp.stack(W * 2))
    assert [str(aval) for aval, _ in found] == stored


def test_policies_of_equal_parts_are_equal():
    def make():
        return policies.save_from_both_policies(policies.dots_saveable, policies.save_only_these_names("a", "b"))

    assert make() == make() and hash(make()) == hash(make())
    assert policies.save_only_these_names("a") != policies.save_any_names_but_these("a")


# --- errors -----------------------------------------------------------------------------------------------------------
class Unhashable:
    __hash__ = None

    def __call__(self, *_, **__):
        return True


def silently_checkpointed():
    def silent(*_, **__):
        """A policy that forgets to answer."""

    return checkpoint(
        lambda c, _: (fnp.sin(fnp.sin(c)), None),
        policy=policies.save_from_both_policies(policies.nothing_saveable, silent),
    )


@cases(
    (
        "no policy",
        TypeError,
        "checkpoint: needs a function, got 'dots' of type str. Pass a callable.",
        lambda: checkpoint(block, policy="dots"),
    ),
    (
        "a policy that answers neither True nor False",
        TypeError,
        "checkpoint: a policy must answer True (store) or False (compute again), got 'offload' of type str from "
        "<lambda> for cos. Return a bool: there is one memory, so no third place to keep a value in.",
        lambda: fgrad.grad(checkpoint(lambda x: fnp.sin(fnp.sin(x)), policy=lambda *_, **__: "offload"))(1.0),
    ),
    (
        "the same inside a scan, under jit, of one of two policies",
        TypeError,
        "checkpoint: a policy must answer True (store) or False (compute again), got None of type NoneType from "
        "silent for cos. Return a bool: there is one memory, so no third place to keep a value in.",
        lambda: fgrad.jit(fgrad.grad(lambda x: lax.scan(silently_checkpointed(), x, None, length=2)[0]))(1.0),
    ),
    (
        "a maker of policies",
        TypeError,
        "checkpoint: a policy must answer True or False, got save_only_these_names, which makes policies. Call it with "
        "the names.",
        lambda: checkpoint(block, policy=policies.save_only_these_names),
    ),
    (
        "a policy that cannot be hashed",
        UnhashableStaticError,
        "checkpoint: a policy must be hashable, got one of type Unhashable (what is compiled for it is kept by it). "
        "Use a function.",
        lambda: checkpoint(block, policy=Unhashable()),
    ),
    (
        "no second policy",
        TypeError,
        "save_from_both_policies: needs a function, got 'dots' of type str. Pass a callable.",
        lambda: policies.save_from_both_policies(policies.dots_saveable, "dots"),
    ),
    (
        "a name that is no string",
        TypeError,
        "checkpoint_name: the name must be a string, got 3 of type int. Pass a string.",
        lambda: checkpoint_name(1.0, 3),
    ),
    (
        "names in a list",
        TypeError,
        "save_only_these_names: names must be strings, got ['a'] of type list. Pass the names given to "
        "checkpoint_name, one by one.",
        lambda: policies.save_only_these_names(["a"]),
    ),
)
def test_messages(error, text, f):
    check(error, text, f)
