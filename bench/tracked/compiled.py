"""What kernels need and what their main loops do, by count of machine code: no GPU, no noise."""

from bench.compiled import Compiled as Found
from bench.compiled import compiled, labels
from bench.registry import Unsupported

from . import tracker


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


for _track, _metric, _unit in (
    ("registers", "registers", "registers/thread"),
    ("spilled_bytes", "stack", "bytes/thread"),
    ("shared_bytes", "shared", "bytes/block"),
    ("code_bytes", "code", "bytes"),
    ("tensor_core_instructions", "tensor", "instructions"),
    ("blocks_a_processor", "blocks", "blocks (higher is better)"),
    ("issue_cycles", "issue", "cycles/iteration"),
    ("float_cycles", "float", "cycles/iteration"),
    ("integer_cycles", "integer", "cycles/iteration"),
    ("special_function_cycles", "special", "cycles/iteration"),
    ("unpacked_conversions", "unpacked", "instructions/iteration"),
    ("waits", "waits", "waits/iteration"),
    ("overlap_bound", "overlap", "cycles/iteration"),
    ("serial_bound", "serial", "cycles/iteration"),
):
    setattr(Compiled, f"track_{_track}", tracker(_metric, _unit))
