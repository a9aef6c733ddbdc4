"""Seeing inside transformed functions: printing, finding NaNs, finding leaked tracers.

See also ``ClosedJaxpr.pretty``, ``ClosedJaxpr.to_svg`` and ``jit(f).lower(x).explain()``.
"""

from fgrad.debug.leaks import check_tracer_leaks, checking_leaks
from fgrad.debug.nans import check_finite, debug_infs, debug_nans
from fgrad.debug.printing import callback, print

__all__ = ["callback", "check_finite", "check_tracer_leaks", "checking_leaks", "debug_infs", "debug_nans", "print"]
