"""Samples of the primitives that call Python functions."""

import numpy as np

from fgrad import tree
from fgrad.core.aval import ShapedArray
from fgrad.higher_order.callbacks import PythonCall, ValueCall
from fgrad.testing.sample import Sample, normal


def table() -> dict[str, list[Sample]]:
    """The samples of each of them."""
    whole = (normal(2, 3), normal(2, 3, seed=1))
    rows = (normal(2, 3), normal(3, seed=1))

    def value(x, y):
        x, y = np.asarray(x), np.asarray(y)
        return x + y, y + 0 * x  # each as large as the two together, where one alone has a batch axis

    def call(fun):
        return PythonCall("pure_callback", fun, tree.tree_structure((whole, {})), {}, None)

    plain = {"sizes": (), "mapped": ((), ())}
    # as under vmaps of sizes 2 and 3, the second operand mapped by the inner one only
    mapped = {"sizes": (2, 3), "mapped": ((True, True), (False, True))}
    ignored, valued = call(lambda x, y: None), ValueCall(call(value), tree.tree_structure((0, 0)))
    matrix, scalar = ShapedArray((2, 3), whole[0].dtype), ShapedArray((), whole[0].dtype)
    methods = ("sequential", "broadcast_all", "expand_dims", "legacy_vectorized")
    return {
        "debug_callback": [
            Sample(whole, {"callback": ignored, **plain}),
            Sample(rows, {"callback": ignored, **mapped}),
        ],
        "pure_callback": [
            *(
                Sample(whole, {"callback": valued, "results": (matrix,) * 2, "vmap_method": m, **plain}, exact=True)
                for m in methods
            ),
            Sample(
                rows,
                {"callback": valued, "results": (scalar,) * 2, "vmap_method": "sequential", **mapped},
                exact=True,
            ),
        ],
    }
