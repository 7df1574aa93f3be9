"""Seeds of optimizers: every cell draws the same numbers, whatever ran before it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(device: str | torch.device, *entropy: int) -> Iterator[None]:
    """Seed torch, numpy and `random` within a context, and restore their states afterwards.

    Optimizers draw from the global generators, including numpy's legacy one.

    Args:
        device: its generator is seeded and restored, as is that of the CPU.
        entropy: integers that determine the seed.
    """
    (seed,) = map(int, np.random.SeedSequence(entropy).generate_state(1))
    random_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    try:
        with torch.random.fork_rng(cuda):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        random.setstate(random_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
