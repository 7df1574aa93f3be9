"""Registers, spills, shared memory, code size and tensor-core instructions: no GPU, no noise."""

from bench.compiled import Compiled as Found
from bench.compiled import compiled, labels
from bench.registry import Unsupported


class Compiled:
    params = labels()
    param_names = ("variant",)
    timeout = 1800

    def setup_cache(self) -> Found:
        try:
            return compiled()
        except Unsupported:
            return {}

    def setup(self, found: Found, variant: str) -> None:
        if variant not in found:
            raise NotImplementedError("this commit has no such variant")

    def track_registers(self, found: Found, variant: str) -> int:
        return found[variant]["registers"]

    def track_spilled_bytes(self, found: Found, variant: str) -> int:
        return found[variant]["stack"]

    def track_shared_bytes(self, found: Found, variant: str) -> int:
        return found[variant]["shared"]

    def track_code_bytes(self, found: Found, variant: str) -> int:
        return found[variant]["code"]

    def track_tensor_core_instructions(self, found: Found, variant: str) -> int:
        return found[variant]["tensor"]


for _name, _unit in (
    ("registers", "registers/thread"),
    ("spilled_bytes", "bytes/thread"),
    ("shared_bytes", "bytes/block"),
    ("code_bytes", "bytes"),
    ("tensor_core_instructions", "instructions"),
):
    _track = getattr(Compiled, f"track_{_name}")
    _track.unit, _track.version = _unit, "1"
