"""The family's Triton kernels: one a file, with the typed function that launches it."""
