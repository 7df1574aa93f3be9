"""The Triton kernels of the matrix sign, one a file: the kernel, then its typed launcher."""
