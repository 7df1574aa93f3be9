"""A cell of a grid: one run of one optimizer on one memory."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """The coordinates of one measurement; a study that varies more has a subclass with more fields.

    Attributes:
        optimizer: its label.
        alpha: exponent of the frequencies.
        dim: embedding dimension `d`.
        num_items: number of facts `N`.
        batch_size: items drawn, or None for the population gradient.
        seed: of the memory and its batches.
    """

    optimizer: str
    alpha: float
    dim: int
    num_items: int
    batch_size: int | None
    seed: int

    @property
    def memory(self) -> tuple[float, ...]:
        """The memory's parameters; consecutive cells that share them are measured in one call."""
        return self.num_items, self.dim, self.alpha, self.seed
