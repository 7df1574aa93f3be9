"""The grid of a study: what it varies, as a plain value."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from memsolve_kernels.errors import DeviceError, DtypeError, RangeError

from memsolve.checks import check_list, is_int_between
from memsolve.embeddings import check_anisotropy
from memsolve.engine.options import option, options
from memsolve.optimizers.choices import Choice, Optimizers, by_label, combine, format_choice
from memsolve.optimizers.sweep import Sweep, parse_sweep, to_words


@dataclass(frozen=True)
class Grid:
    """What a study varies. A plain value: making one runs nothing and touches no device.

    A study with more to vary has a subclass with further fields, made by `option`.

    Args:
        optimizers: names (`sgd`, `muon`, `newton`, a class path such as
            `torch.optim.AdamW:lr=0.01`, a factory path such as `my_module:make`), or a mapping
            from a label to a name, a class, or a factory that takes the parameters.
        alphas: exponents of the frequencies, each above 1.
        dims: embedding dimensions, each at least 2.
        seeds: how many seeds, at least 1; seed `s` is the number `s`.
        num_items: facts `N` of every memory; default `128 d`.
        batch_sizes: for studies of batches; default powers of two from 1 to `d^(alpha + 1/2)`,
            four octaves above the saturation of Muon.
        sweep: settings of the optimizers to vary, each value with each: `{"lr": [1e-3, 1e-2]}`, or
            the words of a command line, `["lr=1e-3", "1e-2"]`. Every optimizer is measured with
            every combination, under a label of its own.
        anisotropy: `kappa` of the input embeddings, at least 0: the eigenvalues of their covariance
            are in proportion to `j^-kappa` (`memsolve.AssociativeMemory`); 0 is isotropic.
        output_anisotropy: `kappa` of the output embeddings, likewise.
        device: `auto` (a GPU if there is one), or any device of torch.
        dtype: `float64` or `float32`, of embeddings, gradient and weight.

    Raises:
        InputError: a value out of range; the message says which, and what was expected.
    """

    items_per_dim: ClassVar[int] = 128
    """`N / d` by default: between a fixed `N` and `N = d^2`, whose logarithms bend small slopes."""

    optimizers: Optimizers = option(
        ("sgd", "muon", "newton"),
        "--optimizers",
        str,
        "sgd, muon, newton, a class: torch.optim.AdamW:lr=0.01, or a factory: my_module:make.",
        in_cells=True,
    )
    alphas: Sequence[float] = option(
        (1.5,), "--alpha", float, "Exponents of the item frequencies, above 1.", in_cells=True
    )
    dims: Sequence[int] = option(
        (64, 128, 256), "--dims", int, "Embedding dimensions d.", in_cells=True
    )
    seeds: int = option(5, "--seeds", int, "How many seeds.", many=False, in_cells=True)
    num_items: int | None = option(
        None,
        "--num-items",
        int,
        "Facts N of every memory (default: 128 d; of training 64 d).",
        many=False,
        in_cells=True,
    )
    batch_sizes: Sequence[int] | None = option(
        None,
        "--batch-sizes",
        int,
        "For studies of batches (default: powers to d^(alpha + 1/2); of dynamics, none).",
        in_cells=True,
    )
    sweep: Sweep = option(
        (),
        "--sweep",
        str,
        "Settings to vary, each with each: lr=1e-3,1e-2,momentum=0,0.9.",
        in_cells=True,
    )
    anisotropy: float = option(
        0.0,
        "--anisotropy",
        float,
        "Exponent kappa of the eigenvalues j^-kappa of the inputs' covariance.",
        many=False,
    )
    output_anisotropy: float = option(
        0.0, "--output-anisotropy", float, "The same of the outputs.", many=False
    )
    device: str = option("auto", "--device", str, "auto, cpu, cuda, ...", many=False)
    dtype: str = option("float64", "--dtype", str, "float64 or float32.", many=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizers", by_label(self.optimizers))
        check_list("alphas", self.alphas, "finite numbers above 1", _is_above_one)
        check_list(
            "dims", self.dims, "whole numbers from 2 to 2^20", lambda d: is_int_between(d, 2, 20)
        )
        if not is_int_between(self.seeds, 1):
            raise RangeError(f"seeds is {self.seeds!r}; expected a whole number of at least 1")
        if self.num_items is not None and not is_int_between(
            self.num_items, max(self.dims) + 1, 40
        ):
            raise RangeError(
                f"num_items is {self.num_items!r}; expected a whole number above the largest "
                f"dimension, {max(self.dims)}, and up to 2^40"
            )
        if self.batch_sizes is not None:
            expected = "whole numbers from 1 to 2^62"
            check_list(
                "batch_sizes", self.batch_sizes, expected, lambda b: is_int_between(b, 1, 62)
            )
            object.__setattr__(self, "batch_sizes", sorted(int(size) for size in self.batch_sizes))
        for name in ("anisotropy", "output_anisotropy"):
            check_anisotropy(name, getattr(self, name), max(self.dims))
        if not isinstance(self.device, str):
            raise DeviceError(f"device is {self.device!r}; expected its name, as 'cpu'")
        if not isinstance(self.dtype, str) or self.dtype not in ("float32", "float64"):
            raise DtypeError(f"dtype is {self.dtype!r}; expected 'float64' or 'float32'")
        object.__setattr__(self, "seeds", int(self.seeds))
        object.__setattr__(self, "anisotropy", float(self.anisotropy))
        object.__setattr__(self, "output_anisotropy", float(self.output_anisotropy))
        if self.num_items is not None:
            object.__setattr__(self, "num_items", int(self.num_items))
        object.__setattr__(self, "sweep", to_words(self.sweep))
        object.__setattr__(self, "alphas", [float(alpha) for alpha in self.alphas])
        object.__setattr__(self, "dims", [int(dim) for dim in self.dims])

    @property
    def is_isotropic(self) -> bool:
        """Whether all embeddings are isotropic, as the laws assume."""
        return self.anisotropy == 0 and self.output_anisotropy == 0

    @property
    def swept(self) -> dict[str, list[str]]:
        """The settings to vary, with their values."""
        return parse_sweep(self.sweep)

    @property
    def choices(self) -> dict[str, Choice]:
        """Optimizers by label, in order, with every combination of the settings to vary."""
        return combine(by_label(self.optimizers), self.swept)

    @property
    def labels(self) -> list[str]:
        """Labels of the optimizers, in order."""
        return list(self.choices)

    def items_of(self, dim: int) -> int:
        """Number of facts of a memory of dimension `dim`."""
        return self.items_per_dim * dim if self.num_items is None else self.num_items

    def batch_sizes_of(self, alpha: float, dim: int) -> list[int]:
        """Batch sizes of a study of batches, increasing."""
        if self.batch_sizes is not None:
            return list(self.batch_sizes)
        octaves = math.ceil((alpha + 0.5) * math.log2(dim))
        if octaves > 62:
            raise RangeError(
                f"at alpha = {alpha} and d = {dim} batches go up to d^(alpha + 1/2) > 2^62; "
                "choose smaller ones, or batch_sizes"
            )
        return [1 << octave for octave in range(octaves + 1)]

    def as_json(self) -> dict[str, Any]:
        """Every field as a JSON value; of a factory, the place where it was defined."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["optimizers"] = {
            label: format_choice(choice) for label, choice in by_label(self.optimizers).items()
        }
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`, for optimizers that are names; unknown fields are ignored.

        Raises:
            InputError: a value out of range.
        """
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})

    def shared_settings(self) -> dict[str, Any]:
        """The settings that all cells share: results with other ones belong to another study."""
        values = self.as_json()
        return {name: values[name] for name, each in options(self) if not each.in_cells}

    def command(self, study: str) -> str:
        """The command that runs a study of this grid, or the call where no command can."""
        if any(label != choice for label, choice in by_label(self.optimizers).items()):
            path = study.replace("-", "_")
            return f"memsolve.run({path}, {type(self).__name__}(**{self.as_json()}))"
        optimizers_last = sorted(options(self), key=lambda entry: entry[0] == "optimizers")
        words = [
            word for name, each in optimizers_last for word in each.arguments(getattr(self, name))
        ]
        return shlex.join(["memsolve", study, *words])

    @classmethod
    def parse(cls, texts: Mapping[str, str | bool | None]) -> Self:
        """The grid of texts by field, as a command line gives them."""
        return cls(
            **{
                name: each.parse(text)
                for name, each in options(cls)
                if (text := texts.get(name)) is not None
            }
        )


def _is_above_one(value: object) -> bool:
    return isinstance(value, float | int | np.floating) and 1 < float(value) < math.inf
