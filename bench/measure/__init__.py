"""Timing, memory and ceilings, the same on a CPU and on a GPU."""

from bench.measure.ceilings import Ceilings, ceilings
from bench.measure.clock import Clock, Sample, clock
from bench.measure.memory import extra_bytes
from bench.measure.ratio import Ratio, paired_ratio
from bench.measure.rounds import interleaved
from bench.measure.tf32 import tf32

__all__ = [
    "Ceilings",
    "Clock",
    "Ratio",
    "Sample",
    "ceilings",
    "clock",
    "extra_bytes",
    "interleaved",
    "paired_ratio",
    "tf32",
]
