"""The grid of a study: what is varied, checked before anything runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import torch
from memsolve_kernels.errors import DeviceError, DtypeError, RangeError

from memsolve.optim.named import Build, Optimizers, by_label, resolve
from memsolve.optim.step import check_steps
from memsolve.problem import power_law

ITEMS_PER_DIM = 128
"""Default `N / d`: between a fixed `N` and `N = d^2`, whose logarithms bend small-`d` slopes."""


@dataclass(frozen=True)
class Cell:
    """One run: one step of one optimizer on one batch of one memory.

    Attributes:
        batch_size: items drawn, or None for the population gradient.
    """

    optimizer: str
    alpha: float
    dim: int
    num_items: int
    batch_size: int | None
    seed: int


@dataclass(frozen=True)
class Grid:
    """What a study varies.

    Args:
        optimizers: names (`sgd`, `muon`, `newton`, a class path such as
            `torch.optim.AdamW:lr=0.01`), or a mapping from a label to a name, a class, or a
            factory that takes the parameters.
        alphas: exponents of the frequencies, each above 1.
        dims: embedding dimensions, each at least 2.
        seeds: how many seeds, at least 1; seed `s` is the number `s`.
        num_items: facts `N` of every memory; default `128 d`.
        batch_sizes: for `saturation`, its batch sizes; default powers of two from 1 to
            `d^(alpha + 1/2)`, so that a Muon finds four octaves above its saturation.
        device: `auto` (a GPU if there is one), or any device of torch.
        dtype: `float64` or `float32`, of embeddings, gradient and weight.

    Raises:
        InputError: a value that means nothing; the message says which and what was expected.
    """

    optimizers: Optimizers = ("sgd", "muon", "newton")
    alphas: Sequence[float] = (1.5,)
    dims: Sequence[int] = (64, 128, 256)
    seeds: int = 5
    num_items: int | None = None
    batch_sizes: Sequence[int] | None = None
    device: str = "auto"
    dtype: str = "float64"
    builders: dict[str, Build] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_list("alphas", self.alphas, "finite numbers above 1", _above_one)
        _check_list("dims", self.dims, "whole numbers of at least 2", lambda d: _whole(d, 2))
        if not _whole(self.seeds, 1):
            raise RangeError(f"seeds is {self.seeds!r}; expected a whole number of at least 1")
        if self.num_items is not None and not _whole(self.num_items, max(self.dims) + 1):
            raise RangeError(
                f"num_items is {self.num_items!r}; expected a whole number above the largest "
                f"dimension, {max(self.dims)}"
            )
        if self.batch_sizes is not None:
            expected = "whole numbers from 1 to 2^62"
            _check_list(
                "batch_sizes", self.batch_sizes, expected, lambda b: _whole(b, 1) and b <= 1 << 62
            )
        if self.dtype not in ("float32", "float64"):
            raise DtypeError(f"dtype is {self.dtype!r}; expected 'float64' or 'float32'")
        for alpha in self.alphas:
            power_law(self.items_of(max(self.dims)), alpha)  # an alpha that underflows is told now
        object.__setattr__(self, "alphas", [float(alpha) for alpha in self.alphas])
        object.__setattr__(self, "dims", [int(dim) for dim in self.dims])
        object.__setattr__(self, "device", _usable(str(self.device)))
        object.__setattr__(self, "builders", resolve(self.optimizers))
        check_steps(self.builders, self.device, getattr(torch, self.dtype))

    @property
    def labels(self) -> list[str]:
        """Optimizers by label, in order."""
        return list(self.builders)

    def items_of(self, dim: int) -> int:
        """Number of facts of a memory of dimension `dim`."""
        return ITEMS_PER_DIM * dim if self.num_items is None else self.num_items

    def batch_sizes_of(self, alpha: float, dim: int) -> list[int]:
        """Batch sizes of a saturation study, increasing."""
        if self.batch_sizes is not None:
            return sorted(int(size) for size in self.batch_sizes)
        octaves = math.ceil((alpha + 0.5) * math.log2(dim))
        if octaves > 62:
            raise RangeError(
                f"at alpha = {alpha} and d = {dim} batches go up to d^(alpha + 1/2) > 2^62; "
                "choose smaller ones, or batch_sizes"
            )
        return [1 << octave for octave in range(octaves + 1)]

    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers, as JSON values."""
        return {
            "optimizers": {
                label: choice if isinstance(choice, str) else _origin(choice)
                for label, choice in by_label(self.optimizers).items()
            },
            "alphas": list(self.alphas),
            "dims": list(self.dims),
            "seeds": self.seeds,
            "num_items": self.num_items,
            "batch_sizes": self.batch_sizes and sorted(int(size) for size in self.batch_sizes),
            "device": self.device,
            "dtype": self.dtype,
        }


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _above_one(value: object) -> bool:
    return isinstance(value, float | int | np.floating) and 1 < float(value) < math.inf


def _check_list(name: str, values: Any, expected: str, valid: Callable[[Any], bool]) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise RangeError(f"{name} is {values!r}; expected a list of {expected}")
    for value in values:
        if not valid(value):
            raise RangeError(f"{name} holds {value!r}; expected {expected}")
    if len(set(values)) < len(values):
        raise RangeError(f"{name} is {list(values)}; expected each value once")


def _origin(factory: object) -> str:
    """Where a factory was defined: as much as can be said of its identity."""
    return f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', factory)}"


def _usable(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # torch asserts where it lacks the backend
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error
    return device
