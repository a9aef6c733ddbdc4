"""fgrad.extend: primitives of your own, with every transformation.

``elementwise`` and ``primitive`` define one from a NumPy function; ``Primitive`` is the same with every slot filled by
hand.  The other names are what rules and passes over jaxprs are written with.
"""

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Fold, Host, IndexMap, Kernel, ScalarMap, Unfilled
from fgrad.core.check import check_jaxpr
from fgrad.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Literal, Var, eval_jaxpr
from fgrad.core.primitive import Axis, Bilinear, Linear, LinearArg, OverAxis, Zero
from fgrad.extend.define import elementwise, primitive
from fgrad.extend.primitive import Primitive
from fgrad.kernels.builder import PlanBuilder
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr, Step
from fgrad.primitives.define import in_float32
from fgrad.transforms.zeros import instantiate

__all__ = [
    "elementwise",
    "primitive",
    "Primitive",
    # scalar rules
    "Scalar",
    "Value",
    "in_float32",
    # what fills a slot
    "ScalarMap",
    "IndexMap",
    "Fold",
    "Kernel",
    "Host",
    "Unfilled",
    "Linear",
    "Bilinear",
    "OverAxis",
    # what rules meet
    "ShapedArray",
    "LinearArg",
    "Zero",
    "instantiate",
    "Axis",
    # what planners return
    "Layout",
    "PlanBuilder",
    "KernelPlan",
    "Step",
    "Ptr",
    # jaxprs
    "ClosedJaxpr",
    "Jaxpr",
    "Eqn",
    "Var",
    "Literal",
    "eval_jaxpr",
    "check_jaxpr",
]
