"""Which dtype accumulates, and which precisions a backend can honour."""

import torch


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, losses and gradients: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
