"""The machine of the formulas: assumptions, none of them measured here.

Peaks and links are those of NVIDIA's data sheet of the H100 SXM (dense) and of the DGX H100, whose
GPUs have one 400 Gb/s port each. The H200 has the same.
"""

FLOAT32 = FLOAT64 = 66.9e12
"""Peaks of dense products, in flops a second: float32 without, float64 with tensor cores."""

TF32, BFLOAT16 = 494.7e12, 989.4e12
"""Peaks of tensor cores."""

TF32X3 = TF32 / 3
"""Products of float32 numbers as three of tf32."""

SOFTMAX = 0.5
"""Share of the peak that passes over all items reach. Assumed; no GPU has run them."""

PRODUCTS = 0.76
"""Share that matrix products reach: cuBLAS makes 750 to 790 TF/s in bfloat16. Assumed of others."""

NVLINK, INFINIBAND = 450e9, 50e9
"""Bytes a second that a GPU sends, and at the same time receives, within and between nodes."""

NODE = 8
"""GPUs of a node."""

CALL = 50e-6
"""Seconds before the first byte of a collective arrives. Assumed."""


def bandwidth(gpus: int) -> float:
    """Bytes a second through a GPU, where the slowest link decides."""
    return NVLINK if gpus <= NODE else INFINIBAND
