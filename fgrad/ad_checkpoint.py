"""Checkpointing by name, and seeing what is stored: JAX's ``jax.ad_checkpoint``."""

from fgrad.higher_order.checkpoint import checkpoint, checkpoint_name, remat
from fgrad.higher_order.saved_residuals import print_saved_residuals, saved_residuals

__all__ = ["checkpoint", "checkpoint_name", "print_saved_residuals", "remat", "saved_residuals"]
