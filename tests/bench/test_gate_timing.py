"""The gate's verdict on told samples: slowdowns are found, and chance is not one."""

from collections.abc import Callable

import numpy as np

from bench.gate.timing import MOST_ROUNDS, ROUNDS, Timing, compare


class Machine:
    """A machine with a drift that all processes share, and noise that each has by itself."""

    def __init__(self, seed: int, noise: float = 0.08) -> None:
        self.generator = np.random.default_rng(seed)
        self.noise, self.drift = noise, 0.0

    def process(self, factor: float) -> Callable[[], float]:
        """A process whose call takes `factor` where nothing disturbs it."""

        def sample() -> float:
            self.drift += self.generator.normal(0, 0.02)
            delay = self.generator.exponential(self.noise)
            if self.generator.random() < 0.1:
                delay += self.generator.exponential(1.0)
            return float(factor * np.exp(self.drift) * (1 + delay))

        return sample


def told(
    base: Callable[[], float], again: Callable[[], float], head: Callable[[], float]
) -> Timing:
    return compare({"base": base, "again": again, "head": head})


def test_a_commit_beside_itself_passes() -> None:
    for seed in range(100):
        machine = Machine(seed)
        assert not told(*(machine.process(1.0) for _ in range(3))).slower


def test_a_slowdown_of_30_percent_is_found() -> None:
    for seed in range(100):
        machine = Machine(seed)
        timing = told(machine.process(1.0), machine.process(1.0), machine.process(1.3))
        assert timing.conclusive
        assert timing.slower


def test_a_speedup_and_a_slowdown_of_3_percent_pass() -> None:
    for factor in (0.7, 1.03):
        machine = Machine(0, noise=0.02)
        samplers = machine.process(1.0), machine.process(1.0), machine.process(factor)
        assert not told(*samplers).slower


def test_processes_that_differ_by_chance_raise_the_bar() -> None:
    """Where base against itself is off by 20%, head may be too."""
    machine = Machine(0, noise=0.01)
    timing = told(machine.process(1.0), machine.process(1.2), machine.process(1.2))
    assert timing.noise > 1.15
    assert not timing.slower


def test_neighbours_change_from_round_to_round() -> None:
    order: list[int] = []

    def sampler(index: int) -> Callable[[], float]:
        return lambda: order.append(index) or 1.0  # type: ignore[func-returns-value]

    told(*map(sampler, range(3)))
    rounds = [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert all(sorted(found) == [0, 1, 2] for found in rounds)
    assert len(set(rounds)) > 3  # a rotation has three


def test_noise_takes_more_rounds_and_then_says_so() -> None:
    taken = 0
    wild = np.random.default_rng(0)

    def sample() -> float:
        nonlocal taken
        taken += 1
        return float(np.exp(wild.normal(0, 2)))

    timing = told(sample, sample, sample)
    assert taken == 3 * MOST_ROUNDS > 3 * ROUNDS
    assert not timing.conclusive
