"""Faults in the rules of calls, loops, branches, checkpoints and functions with rules of their own."""

from fault import Fault, faults

# fmt: off
CALLS = faults(
    "higher_order.jit_primitive", "jit",
    ("jvp", "_jvp", "next(it) if nz else Zero(a.tangent())", "next(it, Zero(a.tangent()))",
     "tangents of results in order"),
    ("jvp", "jvp_jaxpr.make.fun", "[next(it) if nz else Zero(a.tangent()) for a, nz in zip(in_avals, nonzero)]",
     "[next(it, Zero(a.tangent())) for a, nz in zip(in_avals, nonzero)]", "tangents of operands in order"),
    ("transpose", "_transpose", "(next(out) if next(flags) else Zero(a.aval)) if lin else None",
     "next(out) if lin else None", "every linear operand has a cotangent"),
    ("transpose", "_partial_eval", "[*out[n_known:], *tangents]", "[*tangents, *out[n_known:]]",
     "residuals after tangents"),
    ("transpose", "_partial_eval", "next(late_it) if u else next(early_it)", "next(early_it) if u else next(late_it)",
     "known and unknown results exchanged"),
    ("batch", "batch_jaxpr.make", "(*a.shape[:d], axis.size, *a.shape[d:])", "(axis.size, *a.shape)",
     "batch axis taken to be the first"),
    ("batch", "_batch", 'f"vmap_{name}"), out_dims', 'f"vmap_{name}"), [0] * len(out_dims)',
     "batch axes said to be the first"),
)

SCANS = faults(
    "higher_order.scan", "scan",
    ("abstract", "stacked", "(length, *aval.shape)", "(*aval.shape, length)", "steps along the last axis"),
    ("abstract", "_abstract", "a.weak_type and b.weak_type", "a.weak_type or not b.weak_type",
     "carry weak by one side"),
    ("jvp", "_jvp", "length,\n        reverse,\n    )\n    n_ys", "length,\n        False,\n    )\n    n_ys",
     "always forwards"),
    ("jvp", "_jvp_body.fun", "[*carry, *map(instantiate, kept(ts[:n_carry], nz_carry)), *ys, *live(ts[n_carry:])]",
     "[*carry, *tk, *ys, *live(ts[n_carry:])]", "carried tangent never changes"),
    ("jvp", "_jvp_body", "fixed_point(tuple(nz_start), lambda nz: pushed(nz)[1][:n_carry])", "tuple(nz_start)",
     "carries that get a tangent later"),
    ("transpose", "_transpose", "not reverse", "reverse", "transposed loop not reversed"),
    ("transpose", "_transpose_body.fun", "[*map(add_tangents, acc, d_consts)", "[*d_consts",
     "cotangents of constants not added up"),
    ("transpose", "_transpose_body.fun", "*map(instantiate, kept(d_carry, nz_carry))", "*ct_carry",
     "cotangent of the carry passed on"),
    ("transpose", "_transpose",
     "given = [isinstance(a, LinearArg) for a in args]\n    linear = (*given[:n_consts], *[True] * n_carry",
     "given = [isinstance(a, LinearArg) for a in args]\n    linear = (*given[:n_consts], *given[n_consts : "
     "n_consts + n_carry]", "carry that starts known stays so"),
    ("transpose", "_split_body", "fixed_point(tuple(u_start), lambda u: split(jaxpr, flags(u)).out_unknown[:n_carry])",
     "tuple(u_start)", "carries that become unknown later"),
    ("transpose", "_split_body", "[*[True] * k_consts, *[False] * k_carry, *[True] * k_xs]",
     "[True] * (k_consts + k_carry + k_xs)", "a carry read again as it is at last"),
    ("transpose", "_partial_eval", "next(late_ys) if u else next(early_ys)", "next(late_ys) if u else next(late_ys)",
     "known results from the tail"),
    ("batch", "_batch", "None if d is None else d + 1", "d", "batch axis of results without the steps"),
    ("batch", "_batch", "[moveaxis(x, 0, 1) if d == 0 else x for x, d in zip(xs, x_dims)]", "xs",
     "scans over examples"),
    ("batch", "_batch", "max(d - 1, 0)", "d", "axis of a step's slice"),
    ("batch", "_batch_body", "fixed_point(start, lambda m: [d is not None for d in batched(m)[1][:n_carry]])", "start",
     "carries that get a batch axis later"),
    ("batch", "_batch_body.fun", "materialize(o, d, axis.size, 0) if m else o for", "o for",
     "batch axis of a carry wanders"),
)

WHILES = faults(
    "higher_order.while_loop", "while",
    ("abstract", "_abstract", "a.weak_type and b.weak_type", "a.weak_type or not b.weak_type",
     "carry weak by one side"),
    ("jvp", "_jvp_loop.fun", "return [*out, *map(instantiate, kept(ts, nz_carry))]", "return [*out, *tk]",
     "carried tangent never changes"),
    ("jvp", "_jvp_loop", "fixed_point(tuple(nz_start), lambda nz: pushed(nz)[1])", "tuple(nz_start)",
     "carries that get a tangent later"),
    ("transpose", "_partial_eval", "*(not u for u in u_consts), *known_carry]",
     "*[not u for u in u_consts][::-1], *known_carry]", "unknown carries computed now"),
    ("batch", "_batch_loop", "[reduce_or_p.bind(running(args), axes=(0,))]",
     "[reduce_or_p.bind(running(args), axes=(0,))][:0]", "no condition"),
    ("batch", "_batch_loop.frozen", "broadcast_dimensions=(0,)), old, new)", "broadcast_dimensions=(0,)), new, new)",
     "the finished are not held"),
    ("batch", "_batch_loop", "mapped = fixed_point(tuple(d is not None for d in k_dims), step)",
     "mapped = tuple(d is not None for d in k_dims)", "carries that get a batch axis later"),
)

CONDS = faults(
    "higher_order.cond", "cond",
    ("abstract", "_abstract", "all(o.weak_type for o in a)", "not all(o.weak_type for o in a)", "weak if no branch is"),
    ("jvp", "_jvp_branches", "tuple(map(any, zip(*(nz for _, nz in pushed))))", "pushed[0][1]",
     "tangents by the first branch"),
    ("jvp", "_jvp", "live(tangents[1:])", "live(tangents[1:])[::-1]", "tangents in reverse"),
    ("transpose", "_transpose_branches", "tuple(map(any, zip(*(f for _, f in backs))))", "backs[0][1]",
     "cotangents by the first branch"),
    ("transpose", "_known_branch.fun", "out[n + at[s]] if s in at", "out[n + min(s, len(at) - 1)] if s in at",
     "residuals in the order of slots"),
    ("transpose", "_places", "if s not in at and a.same_type(v.aval)", "if a.same_type(v.aval)",
     "two residuals in one slot"),
    ("transpose", "_partial_eval", "*out[n_known:], *kept(args[1:], flags)", "*kept(args[1:], flags), *out[n_known:]",
     "residuals after tangents"),
    ("batch", "_batch", "select_n_p.bind(which, *cases)", "select_n_p.bind(which, *reversed(cases))",
     "branches in reverse"),
    ("batch", "_batch_branches", "[any(d is not None for d in ds) for ds in zip(*(ds for _, ds in wide))]",
     "[d is not None for d in wide[0][1]]", "mapped by the first branch"),
    ("batch", "_batch_branches.at_front.fun", "materialize(o, d, axis.size, 0)", "o", "batch axis not moved"),
)

CHECKPOINTS = faults(
    "higher_order.remat", "checkpoint",
    ("jvp", "_jvp", "out[:n], [next(it) if nz", "out[:n], [next(it) if not nz", "tangents of the others"),
    ("transpose", "_plan", "again.add(place[v])", "again.add(0)", "operands read again in order"),
    ("transpose", "_partial_eval", "*out[n_known:], *tangents]", "*tangents, *out[n_known:]]",
     "kept values after tangents"),
    ("transpose", "_transpose",
     "[a for a, lin in zip(args, linear) if not lin] + [c for c in cts if type(c) is not Zero]",
     "[c for c in cts if type(c) is not Zero] + [a for a, lin in zip(args, linear) if not lin]",
     "cotangents before residuals"),
    ("batch", "_batch", "return _bind(batched, args, params), out_dims",
     "return _bind(batched, args, params), [0] * len(out_dims)", "batch axes said to be the first"),
)

CUSTOM = faults(
    "higher_order.custom_jvp", "custom_jvp",
    ("jvp", "_jvp", "return outs, t_outs", "return outs, t_outs[::-1]", "tangents in reverse"),
    ("batch", "_batch.over_axis", "[*own, *(d for _, d in live)]", "[*own, *own[: len(live)]]",
     "tangents mapped as the first operands"),
    ("batch", "_batch", "return outs, [out.dim] * len(outs)", "return outs, [len(o.shape) - 1 for o in outs]",
     "last axis said to be the batch"),
) + faults(
    "higher_order.custom_vjp", "custom_vjp",
    ("jvp", "_jvp", "tangents[dynamic:] if type(t) is not Zero]\n    t_outs",
     "tangents[dynamic:] if type(t) is not Zero][::-1]\n    t_outs", "tangents in reverse"),
    ("transpose", "_linear_transpose", "(c for c, d in zip(out, depends) if d)", "out[: sum(depends)]",
     "cotangents of the first operands"),
    ("batch", "_placed", "reduce_sum_p.bind(ct, axes=(0,)) if out.mapped else ct", "ct",
     "cotangents of shared operands not summed"),
    ("batch", "_batched_back.over_axis", "_placed(*next(it), d, out) for z, d in zip(zero, dims)",
     "_placed(*next(it), dims[0], out) for z, d in zip(zero, dims)", "cotangents mapped as the first operand"),
    ("batch", "_batch", "out_dims[n_out:], own[n_nondiff:]", "[0] * len(vals[n_out:]), own[n_nondiff:]",
     "residuals taken to be mapped in front"),
)

OTHERS = faults(
    "primitives.barrier", "optimization_barrier",
    ("abstract", "", "tuple([x.strong() for x in xs])", "tuple(xs)", "weak types kept"),
    ("jvp", "_jvp", "[t if type(t) is Zero else next(live) for t in tangents]", "[next(live, t) for t in tangents]",
     "tangents in order"),
    ("transpose", "_transpose", "[c if type(c) is Zero else next(live) for c in cts]",
     "[c if type(c) is Zero else next(live) for c in cts][::-1]", "cotangents in reverse"),
    ("batch", "", "(optimization_barrier_p.bind(*args), dims)", "(optimization_barrier_p.bind(*args), dims[::-1])",
     "batch axes in reverse"),
) + faults(
    "primitives.name", "name",
    ("batch", "", "name_p.bind(*args, name=name), dims[0]", "name_p.bind(*args, name=name), 0",
     "batch axis said to be the first"),
) + faults(
    "primitives.stop_gradient", "stop_gradient",
    ("jvp", "_jvp", "zero_tangent(ans.aval)", "tangents[0]", "it lets the tangent through"),
    ("batch", "", "(stop_gradient_p.bind(*args), dims[0])", "(stop_gradient_p.bind(*args), 0)",
     "batch axis said to be the first"),
) + faults(
    "higher_order.callbacks", "pure_callback",
    ("abstract", "_pure_abstract", "(*sizes, *a.shape)", "a.shape", "mapped axes forgotten"),
    ("batch", "_pure_batch", "sizes = (n, *sizes)", "sizes = (*sizes, n)", "the new axis innermost"),
    ("batch", "_map_front", "(d is not None, *flags)", "(True, *flags)", "every operand mapped"),
    ("batch", "_leading", "return materialize(x, dim, n, 0)", "return x", "batch axis not moved"),
) + faults(
    "primitives.iota", "iota",
    ("abstract", "_abstract", "ShapedArray(tuple(shape), dtype)", "ShapedArray(tuple(shape), np.dtype(np.int32))",
     "always int32"),
)
# fmt: on

FAULTS: list[Fault] = CALLS + SCANS + WHILES + CONDS + CHECKPOINTS + CUSTOM + OTHERS
