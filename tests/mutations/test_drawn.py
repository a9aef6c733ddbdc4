"""One mutation of every function that rules are made of is noticed, or is known to change nothing."""

import pytest
from drawing import Mutation, drawn
from noticing import first_notice, forget, samples
from planting import planted

SEED = 0
#: What the laws cannot notice, and why.
EQUIVALENT: dict[str, str] = {
    "higher_order.cond._abstract: 0 -> 1": "the branches are of one type",
    "higher_order.cond.cached_on_all: 0 -> 1": "which of the branches remembers",
    "higher_order.jit_primitive.cached_on: derived.pop(oldest, None) -> derived.pop(None, oldest)": "how much is kept",
    "primitives.broadcast.batch_to_front_or_common: len(present) == 1 -> len(present) != 1": "any common axis will do",
    "primitives.broadcast.full: np.zeros((), float0) -> np.zeros(float0, ())": "float0 is made for users, not by rules",
    "primitives.compare._select_jvp: 1 -> 0": "the choice is no float, so its tangent is a Zero",
    "primitives.conv._move_groups: 1 -> 0": "a shortcut: one group moves by reshapes to the same shape",
    "primitives.conv._transpose_lhs: 1 -> 0": "a kernel of one element, reversed",
    "primitives.convert.convert: x.ndim == 0 -> x.ndim != 0": "constants are converted at once, or later",
    "primitives.define.check_same: 1 -> 0": "the first operand is compared with itself, too",
    "primitives.dot_general._abstract: _free(l_ndim, lc, lb) -> _free(l_ndim, lb, lc)": "a union of axes",
    "primitives.padding._pad_transpose: lo < 0 -> lo <= 0": "nothing cropped is restored by no zeros",
    "primitives.sort.along: x.ndim - 1 -> (x.ndim) + (1)": "beyond the last axis is the last",
    "primitives.transpose.inverse: 0 -> 1": "every place is written over",
}


@pytest.mark.long
@pytest.mark.parametrize("mutation", drawn(SEED), ids=str)
def test_a_mutation_is_noticed(mutation: Mutation):
    if not any(samples(name) for name in mutation.primitives):
        pytest.skip("its samples need SciPy")
    forget(mutation.primitives)
    try:
        with planted(mutation.edit):
            notice = first_notice(mutation.slot, mutation.primitives)
    finally:
        forget(mutation.primitives)
    reason = EQUIVALENT.get(str(mutation))
    assert notice or reason, f"no law notices {mutation}: a hole in the samples, or one more for EQUIVALENT"
    assert not (notice and reason), f"{mutation} is noticed after all, by {notice}: it belongs no longer to EQUIVALENT"


@pytest.mark.long
def test_what_is_equivalent_is_still_drawn():
    assert set(EQUIVALENT) <= {str(m) for m in drawn(SEED)}
