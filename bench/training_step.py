"""A step of `memsolve dynamics` over its gradient and recall alone, at the size of the README.

Run `python -m bench.training_step`. A round times a whole run of the study and, at the weights that
it went through, nothing but gradient and recall; the first gradient is the closed form in both.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.measure.ratio import LEAST_PAIRS, paired_ratio
from bench.measure.rounds import Taken, interleaved
from memsolve import AssociativeMemory
from memsolve.optimizers.registry import resolve
from memsolve.study.training.dynamics import dynamics
from memsolve.study.training.grid import Candidate, TrainingGrid, TuningKey
from memsolve.study.training.trajectory import trajectory, walk

ALPHA, DIM, ITEMS, STEPS = 1.5, 64, 4096, 16
STEP_SIZES = {"sgd": 4200.0, "muon": 180.0, "torch.optim.AdamW": 180.0}  # tuned, inverse, 50 steps


def alone(memory: AssociativeMemory, weights: list[Tensor]) -> None:
    """The gradient before each step, and the recall after it."""
    batch = memory.population()
    memory.gradient_at_zero(batch)
    for weight in weights[:-1]:
        memory.recall(weight)
        memory.loss_and_gradient(weight, batch)
    memory.recall(weights[-1])


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def enough(taken: Taken[float]) -> list[str]:
    return [name for name, times in taken.items() if len(times) < LEAST_PAIRS]


def main() -> None:
    print(f"alpha={ALPHA} d={DIM} N={ITEMS}, {torch.get_num_threads()} threads, {STEPS} steps")
    memory = AssociativeMemory(ITEMS, DIM, ALPHA, seed=0)
    for name, size in STEP_SIZES.items():
        grid = TrainingGrid((name,), dims=(DIM,), num_items=ITEMS, steps=STEPS, device="cpu")
        run = dynamics.trial(grid, TuningKey(name, ALPHA, DIM, None), 0, Candidate("inverse", size))
        given = grid, memory, resolve([name])[name], run
        weights = [state.weight.clone() for state, _ in walk(*given)]
        samplers = {
            "study": partial(seconds, partial(trajectory, *given)),
            "alone": partial(seconds, partial(alone, memory, weights)),
        }
        taken = interleaved(samplers, enough)
        value, low, high = paired_ratio(taken["study"], taken["alone"])
        step = 1e3 * min(taken["study"]) / STEPS
        print(f"{name:<20}{step:6.0f} ms a step, {value:.2f} [{low:.2f}, {high:.2f}] times")


if __name__ == "__main__":
    main()
