"""What optimizers store: exactly reproducible, and beside each a quantity that falls."""

from bench.quantities import OPTIMIZERS, UNITS, Quantities, quantities
from bench.registry import Unsupported

from . import tracker


class Capacity:
    params = OPTIMIZERS
    param_names = ("optimizer",)
    timeout = 600

    def setup_cache(self) -> Quantities:
        try:
            return quantities()
        except Unsupported:
            return {}

    def setup(self, found: Quantities, optimizer: str) -> None:
        if optimizer not in found:
            raise NotImplementedError("this commit has no studies")


for _name, _unit in UNITS.items():
    setattr(Capacity, f"track_{_name}", tracker(_name, _unit))
