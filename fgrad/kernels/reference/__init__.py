"""The NumPy oracle: what every kernel must compute, written to be read and not to be fast.

Every function takes NumPy arrays of any dtype (ml_dtypes.bfloat16 included) and canonical static parameters
(non-negative axes, explicit padding), checks nothing that tracing has checked already, and returns a fresh array.
Two rules hold throughout: float16 and bfloat16 are accumulated in float32 and rounded once; integers wrap.
"""

from fgrad.kernels.reference.contraction import conv_general_dilated as conv_general_dilated
from fgrad.kernels.reference.contraction import dot_general as dot_general
from fgrad.kernels.reference.indexing import gather as gather
from fgrad.kernels.reference.indexing import marker as marker
from fgrad.kernels.reference.indexing import scatter as scatter
from fgrad.kernels.reference.movement import dilate as dilate
from fgrad.kernels.reference.movement import pad as pad
from fgrad.kernels.reference.movement import rev as rev
from fgrad.kernels.reference.movement import undilate as undilate
from fgrad.kernels.reference.reductions import argmax as argmax
from fgrad.kernels.reference.reductions import argmin as argmin
from fgrad.kernels.reference.reductions import reduce_and as reduce_and
from fgrad.kernels.reference.reductions import reduce_max as reduce_max
from fgrad.kernels.reference.reductions import reduce_min as reduce_min
from fgrad.kernels.reference.reductions import reduce_or as reduce_or
from fgrad.kernels.reference.reductions import reduce_prod as reduce_prod
from fgrad.kernels.reference.reductions import reduce_sum as reduce_sum
from fgrad.kernels.reference.sorting import cumulative as cumulative
from fgrad.kernels.reference.sorting import sort as sort
from fgrad.kernels.reference.windows import gather_winners as gather_winners
from fgrad.kernels.reference.windows import reduce_window as reduce_window
from fgrad.kernels.reference.windows import reduce_window_winner as reduce_window_winner
from fgrad.kernels.reference.windows import scatter_winners as scatter_winners
from fgrad.kernels.reference.windows import tap_dtype as tap_dtype
