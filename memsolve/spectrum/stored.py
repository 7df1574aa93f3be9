"""A tensor in a file: what is known of it without its values."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class StoredTensor(NamedTuple):
    """A tensor that is in a file.

    Attributes:
        name: in the file.
        shape: of the tensor.
        dtype: of the tensor; None where it is one that has no spectrum here, such as int8.
        load: reads its values, on the CPU.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None
    load: Callable[[], Tensor]
