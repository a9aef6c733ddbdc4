"""Kernels: arrays and integers in, arrays out.  Nothing here knows of tracers or jaxprs."""
