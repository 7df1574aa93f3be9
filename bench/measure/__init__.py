"""Timing, memory and ceilings, the same on a CPU and on a GPU."""

from bench.measure.ceilings import Ceilings, ceilings, multiplying
from bench.measure.clock import Clock, Sample, clock
from bench.measure.memory import extra_bytes
from bench.measure.ratio import Ratio, paired_ratio
from bench.measure.rounds import Samples, interleaved, sampled

__all__ = [
    "Ceilings",
    "Clock",
    "Ratio",
    "Sample",
    "Samples",
    "ceilings",
    "clock",
    "extra_bytes",
    "interleaved",
    "multiplying",
    "paired_ratio",
    "sampled",
]
