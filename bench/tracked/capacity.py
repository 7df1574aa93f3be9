"""What optimizers store: exactly reproducible, and beside each a quantity that falls."""

from bench.quantities import OPTIMIZERS, Quantities, quantities
from bench.registry import Unsupported


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

    def track_recovered(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["recovered"]

    def track_weights_per_item(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["weights_per_item"]

    def track_saturation_batch_size(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["saturation_batch_size"]

    def track_weights_per_drawn_item(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["weights_per_drawn_item"]

    def track_capacity_exponent(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["capacity_exponent"]

    def track_capacity_shortfall(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["capacity_shortfall"]

    def track_saturation_exponent(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["saturation_exponent"]

    def track_saturation_shortfall(self, found: Quantities, optimizer: str) -> float:
        return found[optimizer]["saturation_shortfall"]


for _name, _unit in (
    ("recovered", "items (higher is better)"),
    ("weights_per_item", "weights"),
    ("saturation_batch_size", "items (higher is better)"),
    ("weights_per_drawn_item", "weights"),
    ("capacity_exponent", "exponent (higher is better)"),
    ("capacity_shortfall", "exponent"),
    ("saturation_exponent", "exponent (higher is better)"),
    ("saturation_shortfall", "exponent"),
):
    _track = getattr(Capacity, f"track_{_name}")
    _track.unit, _track.version = _unit, "1"
