"""The format of safetensors: a JSON header that names tensors, then their bytes.

The header is read and checked at once, a tensor only when it is loaded, and nothing is unpickled.
Format: eight bytes with the size of the header, little-endian; the header; the bytes
(https://github.com/huggingface/safetensors).
"""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

from memsolve.spectrum.stored import StoredTensor

MAX_HEADER_BYTES = 100_000_000
"""The format's own bound."""

PREFIX_BYTES = 8

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""What can be loaded; tensors of other dtypes have `None` for a dtype."""


class SafetensorsError(InputError):
    """A file that is no valid safetensors file."""


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like one of the format."""
    with path.open("rb") as file:
        return file.read(PREFIX_BYTES + 1)[PREFIX_BYTES:] == b"{"


def read_tensors(path: Path) -> list[StoredTensor]:
    """The tensors that a file names, in the order of its header.

    Raises:
        SafetensorsError: the header is too large, no JSON, or describes other bytes than the file
            has.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(PREFIX_BYTES), "little")
        start = PREFIX_BYTES + length
        if length > MAX_HEADER_BYTES:
            raise SafetensorsError(
                f"{path} has a header of {length} bytes; safetensors allows {MAX_HEADER_BYTES}: "
                "the file is damaged, or of another format"
            )
        if start > size:
            raise SafetensorsError(
                f"{path} is truncated: its header should end at byte {start}, and the file has "
                f"{size}; download it again"
            )
        header = _parse(path, file.read(length))
    return [
        _tensor(path, name, entry, start, size)
        for name, entry in header.items()
        if name != "__metadata__"
    ]


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(
            f"{path} has a header that is no JSON ({error}); expected a safetensors file"
        ) from error
    if not isinstance(header, dict):
        raise SafetensorsError(f"{path} has a header that names no tensors; expected an object")
    return header


def _tensor(path: Path, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    """The tensor of an entry of the header, once the entry is checked.

    Args:
        path: of the file.
        name: of the tensor.
        entry: dtype, shape and offsets, as parsed.
        start: first byte of all tensors.
        size: of the file.
    """
    try:
        dtype, shape, (first, last) = _fields(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise SafetensorsError(
            f"{path} describes tensor {name!r} by {str(entry)[:80]}; expected dtype, shape and two "
            "data_offsets"
        ) from error
    if start + last > size:
        raise SafetensorsError(
            f"{path} is truncated: tensor {name!r} should end at byte {start + last}, and the file "
            f"has {size}; download it again"
        )
    known = DTYPES.get(dtype)
    if known is not None and last - first != math.prod(shape) * known.itemsize:
        raise SafetensorsError(
            f"{path} gives tensor {name!r} {last - first} bytes, which are not those of {dtype} "
            f"with shape {shape}: the file is damaged"
        )
    load = partial(_load, path, start + first, shape, known or torch.uint8)
    return StoredTensor(name, shape, known, load)


def _fields(entry: Mapping[str, Any]) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Dtype, shape and offsets of an entry; raises unless they are of these types."""
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(each) is int and each >= 0 for each in (*shape, first, last)) or last < first:
        raise ValueError
    return str(entry["dtype"]), shape, (first, last)


def _load(path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    data = bytearray(math.prod(shape) * dtype.itemsize)
    with path.open("rb") as file:
        file.seek(offset)
        count = file.readinto(data)
    if count != len(data):
        raise SafetensorsError(f"{path} has become shorter while it was read; run it again")
    return torch.frombuffer(data, dtype=dtype).reshape(shape)
