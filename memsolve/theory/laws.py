"""What a law is: a predicted power of `d`, and whether it is published, conjectured or derived."""

from typing import Literal, NamedTuple

Method = Literal["sgd", "muon", "newton"]


class Law(NamedTuple):
    """A predicted power of `d`.

    Attributes:
        exponent: the power of `d`.
        status: "published", "conjectured" or "derived", and a condition.
    """

    exponent: float
    status: str

    def __str__(self) -> str:
        return f"{self.exponent:.2f} {self.status}".rstrip()
