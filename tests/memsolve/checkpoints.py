"""Checkpoints with known singular values, in both formats."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


def matrix(
    values: Sequence[float] | Tensor, rows: int, columns: int, dtype: torch.dtype, seed: int = 0
) -> Tensor:
    """A matrix (rows, columns) with these singular values, up to rounding to the dtype."""
    generator = torch.Generator().manual_seed(seed)
    size, rank = max(rows, columns), len(values)
    left, right = (
        torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
        for _ in range(2)
    )
    left, right = (
        torch.linalg.qr(basis[:side, :rank]).Q for basis, side in ((left, rows), (right, columns))
    )
    values = torch.as_tensor(values, dtype=torch.float64)
    return torch.einsum("ik,k,jk->ij", left, values, right).to(dtype)


def header_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The header of a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        shape = list(tensor.shape)
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    return header


def save_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write tensors as the safetensors library does."""
    parts = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in tensors.values()]
    return save_parts(path, json.dumps(header_of(tensors)).encode(), *parts)


def save_parts(path: Path, header: bytes, *parts: Tensor) -> Path:
    """Write a header with its length, and bytes after it."""
    data = b"".join(bytes(part.tolist()) for part in parts)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path
