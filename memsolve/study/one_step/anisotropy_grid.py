"""The grid of the study of anisotropy: what it varies is the inputs' kappa."""

from collections.abc import Sequence
from dataclasses import dataclass

from memsolve_kernels.errors import RangeError

from memsolve.checks import check_list
from memsolve.embeddings import check_anisotropy, is_anisotropy
from memsolve.engine import Cell, Grid, option


@dataclass(frozen=True)
class AnisotropyGrid(Grid):
    """A grid of anisotropies.

    Args:
        kappas: exponents of the eigenvalues of the inputs' covariance, each at least 0. They take
            the place of `anisotropy`; the study adds 0, to which it compares the others.

    Other arguments are those of `Grid`.
    """

    kappas: Sequence[float] = option(
        (0.0, 0.3, 0.6, 0.9, 1.2),
        "--kappas",
        float,
        "Exponents kappa of the eigenvalues j^-kappa of the inputs' covariance.",
        in_cells=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anisotropy:
            raise RangeError(
                f"anisotropy is {self.anisotropy:g}; expected 0, since this study varies it: give "
                f"--kappas 0,{self.anisotropy:g} (kappas)"
            )
        check_list("kappas", self.kappas, "finite numbers of at least 0", is_anisotropy)
        check_anisotropy("kappas", max(self.kappas), max(self.dims))
        object.__setattr__(self, "kappas", sorted(float(kappa) for kappa in self.kappas))

    def at(self, kappa: float) -> Grid:
        """The grid of other studies with inputs of this anisotropy."""
        return Grid(
            self.choices,
            anisotropy=kappa,
            output_anisotropy=self.output_anisotropy,
            device=self.device,
            dtype=self.dtype,
        )


@dataclass(frozen=True)
class AnisotropyCell(Cell):
    """One step at one anisotropy of the inputs.

    Attributes:
        kappa: exponent of the eigenvalues of the inputs' covariance.
    """

    kappa: float

    @property
    def memory(self) -> tuple[float, ...]:
        """The memory's parameters."""
        return *super().memory, self.kappa
