"""The target of a race."""

import math
from typing import NamedTuple, Self

from memsolve_kernels.errors import RangeError

from memsolve import theory


class Target(NamedTuple):
    """The condition that ends a race.

    Attributes:
        kind: "recovered", a number of items; "limit", a share of what any weight can store
            (`theory.limit`); or "loss", of the population.
        value: the number, the share, or the loss.
    """

    kind: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target of a text such as `recovered=20`.

        Raises:
            RangeError: another kind, or no number.
        """
        kind, _, number = str(text).partition("=")
        try:
            target = cls(kind, float(number))
        except ValueError:
            target = cls(kind, math.nan)
        if kind not in ("recovered", "limit", "loss") or math.isnan(target.value):
            raise RangeError(
                f"target is {text!r}; expected recovered=ITEMS, limit=SHARE of d^2 / (2 ln N), "
                "or loss=NATS"
            )
        return target

    def at(self, alpha: float, dim: int, num_items: int) -> float:
        """The number of items, or the loss, to reach on one memory.

        Raises:
            RangeError: a target that is reached before the first step, or by no weight.
        """
        if self.kind == "loss":
            start, least = math.log(num_items), theory.least_loss(alpha, dim, num_items)
            if not least < self.value < start:
                raise RangeError(
                    f"target is loss={self.value:g}; expected more than {least:.3g}, which no "
                    f"weight goes below at alpha = {alpha:g} and d = {dim} (memsolve.theory), and "
                    f"less than the loss of W = 0, log N = {start:.3f}"
                )
            return self.value
        share = self.kind == "limit"
        items = self.value * theory.limit(dim, num_items) if share else self.value
        most = min(num_items, dim**2)
        if not (0 < items <= most and (share or items == int(items))):
            raise RangeError(
                f"target is {self.kind}={self.value:g}, {items:g} items at d = {dim}; expected a "
                f"whole number from 1 to {most}, which is N or the limit d^2 of what any weight "
                "stores, or a share above 0 that is no more"
            )
        return math.ceil(items)
