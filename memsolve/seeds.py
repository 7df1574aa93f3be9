"""Randomness of optimizers: every cell draws the same numbers, whatever ran before it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(device: str | torch.device, *entropy: int) -> Iterator[None]:
    """Seed torch, numpy and `random`; on leaving, the caller's numbers go on as if never touched.

    Optimizers draw from the global generators, numpy's old one too.

    Args:
        device: whose generator is restored, beside that of the CPU.
        entropy: whole numbers that decide the seed.
    """
    (seed,) = map(int, np.random.SeedSequence(entropy).generate_state(1))
    of_random, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    where = torch.device(device)
    try:
        with torch.random.fork_rng([where] if where.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        random.setstate(of_random)
        np.random.set_state(of_numpy)  # noqa: NPY002
