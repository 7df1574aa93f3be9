"""What a study is: one question to optimizers, declared in one place."""

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from memsolve_kernels.errors import RangeError

from memsolve.engine.cell import Cell
from memsolve.engine.grid import Grid
from memsolve.engine.peak import Peak
from memsolve.engine.presentation import Presentation
from memsolve.engine.results.summary import Fit, P
from memsolve.engine.results.tidy import Measured, measured

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

G = TypeVar("G", bound=Grid)
C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound="DataclassInstance")


class Study(Presentation[P], Generic[G, C, R, P]):
    """A question to optimizers: its cells, how they are measured, and what is fitted to results.

    The type parameters are its grid, cell, result and point. An instance holds no state.
    `memsolve.run` runs it. The command line offers it by name once it is an object of a module in
    `memsolve.study`, and by its path from anywhere.

    Attributes:
        grid: the default grid; its class decides the command's options.
        cell: class of one measurement's coordinates, derived from `Cell`.
        result: class of what one cell measures.
        point: class of what is shown at one `d`, derived from `Point`. All three are frozen
            dataclasses of JSON values.
        record: folder of a recorded run, against which others are compared; None without one.
        csv_fields: further fields of cells that have a column in `points.csv`.
    """

    grid: G
    cell: type[C]
    result: type[R]
    point: type[P]
    record: ClassVar[Path | None] = None
    csv_fields: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def measure(self, grid: G, cells: Sequence[C]) -> Iterator[R]:
        """Measure cells of one memory, in their order; each result as soon as it is there.

        A pure function of its arguments: any process that has the package can compute it.
        """

    @abstractmethod
    def fits(self, grid: G, results: Mapping[C, R]) -> list[Fit[P]]:
        """One fit for every optimizer and alpha."""

    def complete(self, grid: G) -> G:
        """The grid with everything that the study requires added.

        Raises:
            InputError: a grid that the study cannot use.
        """
        return grid

    def cells(self, grid: G) -> list[C]:
        """The cells to begin with, those of one memory next to each other."""
        return [
            self.cell(optimizer, alpha, dim, grid.items_of(dim), batch_size, seed)
            for alpha, dim, seed in product(grid.alphas, grid.dims, range(grid.seeds))
            for batch_size in self.batch_sizes(grid, alpha, dim)
            for optimizer in grid.labels
        ]

    def next_cells(self, grid: G, results: Mapping[C, R]) -> list[C]:
        """Further cells, which depend on the results so far; none when the study is complete."""
        return []

    def batch_sizes(self, grid: G, alpha: float, dim: int) -> list[int | None]:
        """Batch sizes of a memory; None stands for the population, the default.

        Raises:
            RangeError: the grid has batch sizes, and the study uses none.
        """
        if grid.batch_sizes is not None:
            raise RangeError(
                f"batch_sizes is {list(grid.batch_sizes)}, but this study takes the population "
                "gradient; leave it out, or run a study of batches, as saturation"
            )
        return [None]

    def group(self, cell: C) -> Hashable:
        """Equal for cells that share work, so that an executor's worker gets them together.

        By default a memory and a batch, which share a gradient. Such cells have one memory.
        """
        return cell.memory, cell.batch_size

    def part(self, cell: C) -> Hashable:
        """Equal for cells whose results decide together on further cells; None for all cells.

        `next_cells` of the results of one part are then the further cells of that part, so that no
        part waits for another.
        """
        return None

    def cost(self, grid: G, cell: C) -> float:
        """About how long a cell takes, in any unit: an executor gets the longest cells first.

        By default that of a step and of the logits of its items.
        """
        items = cell.num_items if cell.batch_size is None else min(cell.batch_size, cell.num_items)
        return float(items) * cell.num_items * cell.dim

    def is_timed(self, grid: G, cell: C) -> bool:
        """Whether the result holds times that are reported; then no other cell runs meanwhile."""
        return False

    def without_times(self, result: R) -> R:
        """The result of a cell that was measured beside others, without its times."""
        return result

    def peak(self, grid: G) -> Peak | None:
        """The memory of the largest cell of a grid, by count; None if the study counts none."""
        return None

    def tidy(self, result: R) -> Iterable[Measured]:
        """The numbers of a result, for `points.csv`."""
        return measured(vars(result).items(), step=1)


AnyStudy = Study[Any, Any, Any, Any]
