"""x."""
from typing import NamedTuple
class Tile(NamedTuple):
    rows: int
    columns: int
    depth: int
    group: int
    warps: int
    stages: int
