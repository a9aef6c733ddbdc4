"""Core: avals, jaxprs, traces, primitives and arrays."""
