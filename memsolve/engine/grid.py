"""The grid of a study: what is varied, as a plain value, and each field's command-line option."""

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from memsolve_kernels.errors import DeviceError, DtypeError, InputError, RangeError
from torch.optim import Optimizer

from memsolve.engine.checks import check_list, whole
from memsolve.engine.sweep import Sweep, literal, swept, words

Choice = str | Callable[..., Optimizer]
"""A name, or a factory that takes the parameters; a class is one."""

Optimizers = Sequence[str] | Mapping[str, Choice]
"""What a study takes: names, or choices by label."""


class OptimizerError(InputError):
    """A choice that is no optimizer, or no choice at all."""


class Option(NamedTuple):
    """How a field of a grid is given on a command line.

    Attributes:
        flag: as "--dims".
        kind: of a value: `int`, `float` or `str`.
        help: for a person.
        many: whether it takes several values, separated by commas.
        in_cells: whether each cell carries its own, so that results of other ones are as good.
    """

    flag: str
    kind: type
    help: str
    many: bool = True
    in_cells: bool = False

    def parse(self, text: str) -> Any:
        """The value of the field.

        Raises:
            RangeError: a text that holds no such values.
        """
        try:
            values = [self.kind(part) for part in split(text)]
        except ValueError as error:
            one = "a whole number" if self.kind is int else "a number"
            several = f"{one.removeprefix('a ')}s, separated by commas"
            expected = several if self.many else one
            raise RangeError(f"{self.flag} is {text!r}; expected {expected}") from error
        if not self.many and len(values) != 1:
            raise RangeError(f"{self.flag} is {text!r}; expected one value")
        return values if self.many else values[0]

    def text(self, value: Any) -> str | None:
        """A value as a command line has it; None where it leaves the option out."""
        if value is None:
            return None
        return (",".join(map(str, value)) if self.many else str(value)) or None

    def words(self, value: Any) -> list[str]:
        """The option as a command line has it; nothing for None."""
        text = self.text(value)
        return [] if text is None else [self.flag, text]


def option(
    default: Any,
    flag: str,
    kind: type,
    help: str,  # noqa: A002
    *,
    many: bool = True,
    in_cells: bool = False,
) -> Any:
    """A field of a grid with its option."""
    return field(default=default, metadata={"option": Option(flag, kind, help, many, in_cells)})


@dataclass(frozen=True)
class Grid:
    """What a study varies. A plain value: making one runs nothing and asks no device.

    A study with more to vary has a subclass of its own, with fields made by `option`.

    Args:
        optimizers: names (`sgd`, `muon`, `newton`, a class path such as
            `torch.optim.AdamW:lr=0.01`, a factory path such as `my_module:make`), or a mapping
            from a label to a name, a class, or a factory that takes the parameters.
        alphas: exponents of the frequencies, each above 1.
        dims: embedding dimensions, each at least 2.
        seeds: how many seeds, at least 1; seed `s` is the number `s`.
        num_items: facts `N` of every memory; default `128 d`.
        batch_sizes: for studies of batches; default powers of two from 1 to `d^(alpha + 1/2)`, so
            that a Muon finds four octaves above its saturation.
        sweep: settings of the optimizers to vary, each value with each: `{"lr": [1e-3, 1e-2]}`, or
            the words of a command line, `["lr=1e-3", "1e-2"]`. Every optimizer is measured with
            every combination, under a label of its own.
        device: `auto` (a GPU if there is one), or any device of torch.
        dtype: `float64` or `float32`, of embeddings, gradient and weight.

    Raises:
        InputError: a value that means nothing; the message says which and what was expected.
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
    device: str = option("auto", "--device", str, "auto, cpu, cuda, ...", many=False)
    dtype: str = option("float64", "--dtype", str, "float64 or float32.", many=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizers", by_label(self.optimizers))
        check_list("alphas", self.alphas, "finite numbers above 1", _above_one)
        check_list("dims", self.dims, "whole numbers from 2 to 2^20", lambda d: whole(d, 2, 20))
        if not whole(self.seeds, 1):
            raise RangeError(f"seeds is {self.seeds!r}; expected a whole number of at least 1")
        if self.num_items is not None and not whole(self.num_items, max(self.dims) + 1, 40):
            raise RangeError(
                f"num_items is {self.num_items!r}; expected a whole number above the largest "
                f"dimension, {max(self.dims)}, and up to 2^40"
            )
        if self.batch_sizes is not None:
            expected = "whole numbers from 1 to 2^62"
            check_list("batch_sizes", self.batch_sizes, expected, lambda b: whole(b, 1, 62))
            object.__setattr__(self, "batch_sizes", sorted(int(size) for size in self.batch_sizes))
        if not isinstance(self.device, str):
            raise DeviceError(f"device is {self.device!r}; expected its name, as 'cpu'")
        if not isinstance(self.dtype, str) or self.dtype not in ("float32", "float64"):
            raise DtypeError(f"dtype is {self.dtype!r}; expected 'float64' or 'float32'")
        object.__setattr__(self, "sweep", words(self.sweep))
        object.__setattr__(self, "alphas", [float(alpha) for alpha in self.alphas])
        object.__setattr__(self, "dims", [int(dim) for dim in self.dims])

    @property
    def swept(self) -> dict[str, list[str]]:
        """The settings to vary, with their values."""
        return swept(self.sweep)

    @property
    def choices(self) -> dict[str, Choice]:
        """Optimizers by label, in order, with every combination of the settings to vary."""
        combined = by_label(self.optimizers)
        for key, values in self.swept.items():
            combined = {
                f"{label}:{key}={value}": _with(choice, key, value)
                for label, choice in combined.items()
                for value in values
            }
        return combined

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

    def settings(self) -> dict[str, Any]:
        """Every field as a JSON value; a factory as the place where it was defined."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["optimizers"] = {
            label: choice if isinstance(choice, str) else _origin(choice)
            for label, choice in by_label(self.optimizers).items()
        }
        return values

    def common(self) -> dict[str, Any]:
        """The settings that all cells share: results of others belong to another study."""
        every = self.settings()
        return {name: every[name] for name, given in options(type(self)) if not given.in_cells}

    def command(self, study: str) -> str:
        """The command that runs a study of this grid, or the call where a command cannot say it."""
        if any(label != choice for label, choice in by_label(self.optimizers).items()):
            function = study.replace("-", "_")
            return f"memsolve.study.{function}({type(self).__name__}(**{self.settings()}))"
        named = sorted(options(type(self)), key=lambda entry: entry[0] == "optimizers")
        words = [word for name, given in named for word in given.words(getattr(self, name))]
        return shlex.join(["memsolve", study, *words])

    @classmethod
    def parse(cls, texts: Mapping[str, str | None]) -> Self:
        """The grid of texts by field, as a command line gives them."""
        return cls(
            **{
                name: given.parse(text)
                for name, given in options(cls)
                if (text := texts.get(name)) is not None
            }
        )


def options(grid: type[Grid]) -> list[tuple[str, Option]]:
    """Fields of a kind of grid with their options, in order."""
    return [(each.name, each.metadata["option"]) for each in fields(grid)]


def by_label(optimizers: Optimizers) -> dict[str, Choice]:
    """Choices by label; a name is its own label.

    Raises:
        OptimizerError: nothing named, a name twice, or what is neither a name nor a factory.
    """
    if isinstance(optimizers, str | bytes):
        raise OptimizerError(f"optimizers is the string {optimizers!r}; expected a list of names")
    if not isinstance(optimizers, Sequence | Mapping):
        raise OptimizerError(
            f"optimizers is {optimizers!r}; expected a list of names, or choices by label"
        )
    if not optimizers:
        raise OptimizerError("optimizers is empty; expected at least one, such as muon")
    if isinstance(optimizers, Mapping):
        for label, choice in optimizers.items():
            if not (isinstance(label, str) and (isinstance(choice, str) or callable(choice))):
                raise OptimizerError(
                    f"optimizer {label!r} is {choice!r}; expected a name, a class, or a factory "
                    "that takes the parameters, under a label"
                )
        return dict(optimizers)
    for name in optimizers:
        if not isinstance(name, str):
            raise OptimizerError(
                f"optimizers holds {name!r}; expected names; a class or a factory needs a label, "
                'as in {"mine": make}'
            )
        if list(optimizers).count(name) > 1:
            raise OptimizerError(f"optimizer {name!r} is named twice")
    return {name: name for name in optimizers}


def _with(choice: Choice, key: str, value: str) -> Choice:
    if isinstance(choice, str):
        return f"{choice}:{key}={value}"
    return partial(choice, **{key: literal(key, value)})


def split(text: str) -> list[str]:
    """Parts between commas, except commas inside brackets: `adam:betas=(0.9,0.95),sgd`."""
    return [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", text) if part.strip()]


def _above_one(value: object) -> bool:
    return isinstance(value, float | int | np.floating) and 1 < float(value) < math.inf


def _origin(factory: object) -> str:
    """Where a factory was defined: as much as can be said of its identity."""
    return f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', factory)}"
