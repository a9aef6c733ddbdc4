"""Primitives that hold jaxprs."""
