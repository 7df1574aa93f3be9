"""`memsolve spectrum`: the singular values in a checkpoint, and a schedule that resolves them."""
