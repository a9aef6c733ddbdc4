"""Faults in the rules of element-wise functions, reductions, running totals and matrices."""

from fault import Fault, faults

# fmt: off
ELEMENTWISE = faults(
    "primitives.define", "add exp",
    ("abstract", "elementwise.abstract", "result(first.dtype) if result else first.dtype)",
     "result(first.dtype) if result else first.dtype, first.weak_type)", "weak by the first operand alone"),
    ("jvp", "elementwise.partials_jvp", 'total = term if total is None else REGISTRY["add"].bind(total, term)',
     "total = term", "the last operand's tangent alone"),
    ("batch", "batch_elementwise.rule", "REGISTRY[prim_name].bind(*args, **params), dim",
     "REGISTRY[prim_name].bind(*args, **params), 0", "batch axis said to be the first"),
) + faults(
    "primitives.define", "atan2 pow",
    ("jvp", "elementwise.partials_jvp", "d(t, ans, *primals, **params)", "d(t, ans, *reversed(primals), **params)",
     "operands in reverse"),
) + faults(
    "primitives.compare", "eq lt is_finite",
    ("abstract", "_to_bool", "dtypes.bool_", "dtype", "comparisons of the operands' dtype"),
) + faults(
    "primitives.compare", "select_n",
    ("abstract", "_select_abstract", "ShapedArray(cases[0].shape", "ShapedArray(which.shape", "shape of the choice"),
    ("jvp", "_select_jvp", "select_n_p.bind(which, *ts)", "select_n_p.bind(which, *reversed(ts))",
     "tangent of another case"),
    ("jvp", "_select_jvp", "all(type(t) is Zero for t in tangents[1:])", "any(type(t) is Zero for t in tangents[1:])",
     "no tangent unless every case has one"),
    ("transpose", "_select_transpose", "ct if j == i else zero", "zero if j == i else ct", "cotangent to the others"),
    ("transpose", "_select_transpose", "ct if j == i else zero", "ct if j >= i else zero", "cotangent to later cases"),
    ("batch", "_select_batch", "broadcast_dimensions=(0,))\n        cases",
     "broadcast_dimensions=(len(shape) - 1,))\n        cases", "choices along the last axis"),
    ("batch", "_select_batch", "[c if d is None else moveaxis(c, d, 0) for c, d in zip(cases, c_dims)]", "cases",
     "cases not moved to the choices"),
) + faults(
    "primitives.compare", "clamp",
    ("jvp", "", "or_p.bind(lt_p.bind(hi, x)", "or_p.bind(lt_p.bind(x, hi)", "upper bound's tangent below it"),
    ("jvp", "", "gt_p.bind(lo, x), le_p", "gt_p.bind(hi, x), le_p",
     "lower bound's tangent below the upper"),
    ("jvp", "", "or_p.bind(lt_p.bind(hi, x), lt_p.bind(hi, lo))", "lt_p.bind(hi, x)", "bounds in the wrong order"),
    ("jvp", "_where", "full_like(t, 0), t", "t, full_like(t, 0)", "cases exchanged"),
) + faults(
    "primitives.arithmetic", "sub",
    ("jvp", "", "lambda t, ans, x, y: t, lambda t, ans, x, y: neg_p.bind(t)",
     "lambda t, ans, x, y: t, lambda t, ans, x, y: t", "sign of the second"),
    ("transpose", "_sub_transpose", "neg_p.bind(ct)", "ct", "sign of the second"),
) + faults(
    "primitives.arithmetic", "neg",
    ("transpose", "_neg_transpose", "[neg_p.bind(ct)]", "[ct]", "sign"),
) + faults(
    "primitives.arithmetic", "mul",
    ("transpose", "_mul_transpose", "[mul_p.bind(ct, y), None]", "[mul_p.bind(ct, mul_p.bind(y, y)), None]",
     "factor squared"),
    ("transpose", "_mul_transpose", "[None, mul_p.bind(x, ct)]", "[None, ct]", "factor forgotten"),
) + faults(
    "primitives.arithmetic", "div",
    ("jvp", "", "neg_p.bind(mul_p.bind(t, div_p.bind(ans, y))),\n    ),\n)  # fmt: skip\nrem_p",
     "mul_p.bind(t, div_p.bind(ans, y)),\n    ),\n)  # fmt: skip\nrem_p", "sign in the divisor"),
    ("jvp", "", "mul_p.bind(t, div_p.bind(ans, y))),\n    ),\n)  # fmt: skip\nrem_p",
     "mul_p.bind(t, div_p.bind(x, y))),\n    ),\n)  # fmt: skip\nrem_p", "x/y for x/y^2"),
    ("transpose", "_div_transpose", "div_p.bind(ct, y)", "mul_p.bind(ct, y)", "times for over"),
) + faults(
    "primitives.arithmetic", "rem",
    ("jvp", "", "div_p.bind(sub_p.bind(x, ans), y)", "div_p.bind(x, y)", "quotient not truncated"),
) + faults(
    "primitives.arithmetic", "max",
    ("jvp", "", "order_p.bind(y, x)),\n    ),\n)  # fmt: skip\nmin_p",
     "order_p.bind(x, y)),\n    ),\n)  # fmt: skip\nmin_p", "tangent of the loser"),
) + faults(
    "primitives.arithmetic", "min",
    ("jvp", "", "order_p.bind(x, y)),\n    ),\n)  # fmt: skip\nabs_p",
     "order_p.bind(y, x)),\n    ),\n)  # fmt: skip\nabs_p", "tangent of the loser"),
) + faults(
    "primitives.ties", "share",
    ("jvp", "_share_jvp", "share_p.bind(tangents[0], order)", "tangents[0]", "tangent not shared"),
    ("transpose", "_share_transpose", "share_p.bind(ct, order)", "ct", "cotangent not shared"),
) + faults(
    "primitives.arithmetic", "abs",
    ("jvp", "_abs_partial", "mul_p.bind(t, sign_p.bind(x))", "t", "sign forgotten"),
) + faults(
    "primitives.arithmetic", "square",
    ("jvp", "", "_scale(x, 2)", "x", "factor 2"),
) + faults(
    "primitives.arithmetic", "integer_pow",
    ("jvp", "_integer_pow_partial", "y=y - 1), y)", "y=y - 1), y - 1)", "factor off by one"),
    ("jvp", "_integer_pow_partial", "y=y - 1", "y=y", "power not lowered"),
) + faults(
    "primitives.arithmetic", "pow",
    ("jvp", "_pow_dx", "_where(nought, full_like(y, 0), slope)", "slope", "the mixed derivative at 0^0"),
    ("jvp", "_pow_dx", "_where(nought, one, y)", "y", "0^-1 in the slope"),
    ("jvp", "_pow_dy", "safe = _where(eq_p.bind(x, zero), full_like(x, 1), x)", "safe = x", "log of 0"),
    ("jvp", "_pow_dy", "log_p.bind(safe)", "safe", "logarithm forgotten"),
) + faults(
    "primitives.arithmetic", "sqrt",
    ("jvp", "", "div_p.bind(_scale(t, 0.5), ans)", "div_p.bind(_scale(t, 0.5), x)", "over x"),
) + faults(
    "primitives.arithmetic", "rsqrt",
    ("jvp", "", "_scale(div_p.bind(ans, x), -0.5)", "_scale(div_p.bind(ans, x), 0.5)", "sign"),
) + faults(
    "primitives.arithmetic", "cbrt",
    ("jvp", "", "1 / 3", "0.333", "a third to three digits"),
) + faults(
    "primitives.transcendental", "exp2",
    ("jvp", "", "_scale(ans, math.log(2))", "ans", "log 2"),
) + faults(
    "primitives.transcendental", "expm1",
    ("jvp", "", "lambda t, ans, x: _times(t, _one_plus(ans)))", "lambda t, ans, x: _times(t, ans))", "the one"),
) + faults(
    "primitives.transcendental", "cos",
    ("jvp", "", "neg_p.bind(_times(t, sin_p.bind(x)))", "_times(t, sin_p.bind(x))", "sign"),
) + faults(
    "primitives.transcendental", "tan",
    ("jvp", "", "_times(t, _one_plus(square_p.bind(ans)))", "_times(t, _one_plus(square_p.bind(x)))", "x for tan x"),
) + faults(
    "primitives.transcendental", "tanh",
    ("jvp", "_tanh_partial", "_one_minus_square(ans)", "_one_minus_square(x)", "x for tanh x"),
) + faults(
    "primitives.transcendental", "logistic",
    ("jvp", "_logistic_partial", "sub_p.bind(full_like(ans, 1), ans)", "full_like(ans, 1)", "1 - s forgotten"),
) + faults(
    "primitives.transcendental", "acosh",
    ("jvp", "_acosh_partial", "sub_p.bind(x, one)", "sub_p.bind(one, x)", "sign under the root"),
) + faults(
    "primitives.transcendental", "asin acos",
    ("jvp", "_asin_partial", "rsqrt_p.bind(_one_minus_square(x))", "rsqrt_p.bind(_one_plus(square_p.bind(x)))",
     "sign under the root"),
) + faults(
    "primitives.transcendental", "atan2",
    ("jvp", "", "neg_p.bind(_over_norm(t, x, x, y))", "_over_norm(t, x, x, y)", "sign"),
    ("jvp", "_over_norm", "square_p.bind(y)", "y", "a square in the norm"),
) + faults(
    "primitives.special", "erf",
    ("jvp", "", "_gaussian(x), 2 / math.sqrt(math.pi)", "_gaussian(x), 1 / math.sqrt(math.pi)", "factor 2"),
) + faults(
    "primitives.special", "erf_inv",
    ("jvp", "", "exp_p.bind(square_p.bind(ans))", "exp_p.bind(square_p.bind(x))", "x for erf_inv x"),
) + faults(
    "primitives.special", "igamma",
    ("jvp", "_gamma_density", "_plus(a, -1)", "a", "exponent a"),
) + faults(
    "primitives.special", "igammac",
    ("jvp", "", "lambda t, ans, a, x: neg_p.bind(mul_p.bind(t, _gamma_density(a, x)))",
     "lambda t, ans, a, x: mul_p.bind(t, _gamma_density(a, x))", "sign"),
) + faults(
    "primitives.special", "regularized_incomplete_beta",
    ("jvp", "_beta_density", "mul_p.bind(_plus(b, -1), log1p_p.bind(neg_p.bind(x)))",
     "mul_p.bind(_plus(b, -1), log_p.bind(x))", "x for 1 - x"),
) + faults(
    "primitives.special", "zeta",
    ("jvp", "_zeta_dq", "_plus(x, 1)", "x", "power not raised"),
) + faults(
    "primitives.special", "bessel_i1e",
    ("jvp", "_i1e_partial", "full_like(x, 0.5)", "full_like(x, 1)", "slope at nought"),
    ("jvp", "_i1e_partial", "safe = select_n_p.bind(at_zero, x, full_like(x, 1))", "safe = x", "division by nought"),
) + faults(
    "primitives.special", "bessel_i0e",
    ("jvp", "_i0e_partial", "mul_p.bind(sign_p.bind(x), ans)", "ans", "sign of x"),
) + faults(
    "primitives.convert", "convert_element_type",
    ("abstract", "_abstract", "ShapedArray(x.shape, new_dtype, weak_type)", "ShapedArray(x.shape, new_dtype)",
     "weak type lost"),
    ("jvp", "_jvp", "convert_p.bind(t, new_dtype=new_dtype, weak_type=weak_type)", "t", "tangent of the old dtype"),
    ("transpose", "_transpose", "convert_p.bind(ct, new_dtype=x.dtype, weak_type=x.aval.weak_type)", "ct",
     "cotangent of the new dtype"),
)

REDUCTIONS = faults(
    "primitives.reductions", "reduce_prod reduce_max reduce_and",
    ("abstract", "_reduction.abstract", "ShapedArray(reduced(x, axes), x.dtype)",
     "ShapedArray(tuple(1 if d in axes else n for d, n in enumerate(x.shape)), x.dtype)", "reduced axes kept"),
) + faults(
    "primitives.reductions", "reduce_prod",
    ("jvp", "_prod_jvp", "add_p.bind(mul_p.bind(da, b), mul_p.bind(a, db))", "mul_p.bind(da, b)",
     "one term of the product rule"),
    ("jvp", "_prod_jvp", "x = pad_p.bind(x, full((), 1, x.dtype), padding_config=odd)",
     "x = pad_p.bind(x, full((), 0, x.dtype), padding_config=odd)", "padded with nought"),
    ("jvp", "_prod_jvp", "permute(a, (*kept, *axes))", "permute(a, (*axes, *kept))", "reduced axes in front"),
    ("jvp", "_halves", "limit_indices=(*rows, 2 * half)", "limit_indices=(*rows, 2 * half - 1)", "second half short"),
    ("batch", "_reduction.batch", "axes=shift(axes)", "axes=axes", "axes not shifted"),
) + faults(
    "primitives.reductions", "reduce_max reduce_min",
    ("jvp", "_extremum_jvp.rule", "div_p.bind(reduce_sum_p.bind(mul_p.bind(t, hit), axes=axes), ties)",
     "reduce_sum_p.bind(mul_p.bind(t, hit), axes=axes)", "ties not shared"),
    ("jvp", "_extremum_jvp.rule", "kept = tuple(d for d in range(x.ndim) if d not in axes)",
     "kept = tuple(range(ans.ndim))", "extremum along the first axes"),
    ("jvp", "_extremum_jvp.rule", "mul_p.bind(t, hit)", "t", "tangents of the losers"),
) + faults(
    "primitives.reductions", "argmax argmin",
    ("abstract", "_position.abstract", "ShapedArray(reduced(x, axes), index_dtype)",
     "ShapedArray(reduced(x, axes), np.dtype(np.int32))", "indices of 32 bits"),
    ("batch", "_position.batch", "axes=shift(axes)", "axes=axes", "axes not shifted"),
)

CUMULATIVE = faults(
    "primitives.cumulative", "cumsum",
    ("transpose", "_sum_transpose", "reverse=not reverse", "reverse=reverse", "same direction"),
) + faults(
    "primitives.cumulative", "cumsum cummax",
    ("batch", "_cumulative.batch", "axis=axis + 1", "axis=axis", "along the examples"),
    ("batch", "_cumulative.batch", "moveaxis(x, d, 0)", "x", "batch axis not moved"),
) + faults(
    "primitives.cumulative", "cumprod cumlogsumexp",
    ("jvp", "_doubling_jvp.rule", "by *= 2", "by += 1", "steps not doubled"),
    ("jvp", "_doubling_jvp.rule", "while by < x.shape[axis]:", "while 2 * by < x.shape[axis]:", "last step left out"),
    ("jvp", "_doubling_jvp.rule", "return ans, rev_p.bind(t, dimensions=(axis,)) if reverse else t", "return ans, t",
     "not turned back"),
    ("jvp", "_shifted", "(by, -by, 0)", "(-by, by, 0)", "shifted down"),
) + faults(
    "primitives.cumulative", "cumprod",
    ("jvp", "_product_step", "mul_p.bind(a, db)", "mul_p.bind(b, db)", "wrong factor"),
) + faults(
    "primitives.cumulative", "cumlogsumexp",
    ("jvp", "_logaddexp_step", "sub_p.bind(full_like(a, 1), share)", "share", "shares exchanged"),
    ("jvp", "_logaddexp_step", "apart = select_n_p.bind(eq_p.bind(a, b), apart, full_like(a, 0))", "pass",
     "difference of infinities"),
) + faults(
    "primitives.cumulative", "cummax cummin",
    ("jvp", "_extremum_jvp.rule", "config = tuple((1, 0, 0) if d == axis", "config = tuple((0, 1, 0) if d == axis",
     "places off by one"),
    ("jvp", "_extremum_jvp.rule", "cummax_p.bind(places, axis=axis, reverse=False)", "places",
     "places of ties not carried on"),
    ("jvp", "_extremum_jvp.rule", "better.bind(here, before)", "(better and gt_p).bind(here, before)",
     "minimum's places from the maximum"),
    ("jvp", "_extremum_jvp.rule", "iota_p.bind(dtype=dtypes.int64, shape=tuple(new.shape), dimension=axis)",
     "iota_p.bind(dtype=dtypes.int64, shape=tuple(new.shape), dimension=0)", "places along the first axis"),
)

MATRICES = faults(
    "primitives.linalg", "solve",
    ("jvp", "_solve_jvp", "sub_p.bind(db, moved)", "db", "no term of the matrix"),
    ("jvp", "_solve_jvp", "_mT(da) if transpose_a else da", "da", "transposition of the matrix's tangent"),
    ("jvp", "_solve_jvp", "neg_p.bind(moved)", "moved", "sign where b has no tangent"),
    ("transpose", "_solve_transpose", "not transpose_a", "transpose_a", "not transposed"),
    ("batch", "_solve_batch", "if d is not None\n        else", "if d == 0\n        else",
     "batch axis taken to be the first"),
) + faults(
    "primitives.linalg", "cholesky",
    ("jvp", "_cholesky_jvp", "mul_p.bind(m, full_like(m, 0.5))", "m", "diagonal not halved"),
    ("jvp", "_cholesky_jvp", "_symmetric(t)", "t", "tangent not symmetric"),
) + faults(
    "primitives.linalg", "qr",
    ("abstract", "_qr_abstract", "k = min(m, n)", "k = n", "columns of a wide matrix"),
    ("jvp", "_qr_jvp", "w = sub_p.bind(below, _mT(below))", "w = below", "not antisymmetric"),
    ("jvp", "_qr_jvp", "sub_p.bind(_matmul(_mT(q), t), _matmul(w, r))", "_matmul(_mT(q), t)", "R as if Q stood still"),
) + faults(
    "primitives.linalg", "eigh",
    ("jvp", "_inverse_gaps", "sub_p.bind(_columns(w, like), _rows(w, like))",
     "sub_p.bind(_rows(w, like), _columns(w, like))", "sign of the gaps"),
    ("jvp", "_eigh_jvp", "_symmetric(t)", "t", "tangent not symmetric"),
) + faults(
    "primitives.linalg", "svd",
    ("abstract", "_svd_abstract", "(m, n) if full_matrices else (k, k)", "(k, k)", "full matrices cut"),
    ("jvp", "_svd_jvp", "mul_p.bind(s, s)", "s", "gaps of s for those of s^2"),
    ("jvp", "_svd_jvp", "if m > n:", "if False:", "part outside of U"),
    ("jvp", "_svd_jvp", "rest = sub_p.bind(rest, _matmul(v, _matmul(_mT(v), rest)))", "pass",
     "projection for a wide matrix"),
) + faults(
    "primitives.linalg", "eigh qr",
    ("batch", "_batch.rule", "moveaxis(args[0], dims[0], 0)", "args[0]", "batch axis not moved"),
)

ROUNDINGS = faults(
    "primitives.rounding", "reduce_precision",
    ("transpose", "_reduce_precision_transpose", "exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)]",
     "exponent_bits=mantissa_bits, mantissa_bits=exponent_bits)]", "bits exchanged"),
)
# fmt: on

FAULTS: list[Fault] = ELEMENTWISE + REDUCTIONS + CUMULATIVE + MATRICES + ROUNDINGS
