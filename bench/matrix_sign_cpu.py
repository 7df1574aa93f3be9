"""The polar factor on a CPU by an SVD, by default and by Newton-Schulz: seconds and stored items.

Run `python -m bench.matrix_sign_cpu [d ...]`. The matrix is the population gradient of an
associative memory at W = 0; the best of a few alternating rounds counts, since a busy machine only
ever adds time. Ratios are against the SVD in float64, which defines the capacity, and in float32.
"""

import argparse
import time
from collections.abc import Callable

import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.matrix_sign import minimax
from torch import Tensor

from memsolve import AssociativeMemory

ALPHA, ITEMS_PER_DIM, ROUNDS = 1.5, 64, 4


def by_svd(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    sign: Tensor = left @ right
    return sign


def by_newton_schulz(matrix: Tensor) -> Tensor:
    return matrix_sign(matrix, backend="torch")


def to_band(lower: float, error: float) -> Callable[[Tensor], Tensor]:
    return lambda matrix: matrix_sign(matrix, schedule=minimax(lower, error))


RUNS: dict[str, tuple[Callable[[Tensor], Tensor], torch.dtype]] = {
    "SVD float64": (by_svd, torch.float64),
    "SVD float32": (by_svd, torch.float32),
    "default float64": (matrix_sign, torch.float64),
    "default float32": (matrix_sign, torch.float32),
    "Newton-Schulz float64": (by_newton_schulz, torch.float64),
    "Newton-Schulz float32": (by_newton_schulz, torch.float32),
    "minimax(1e-5, 1e-2)": (to_band(1e-5, 1e-2), torch.float32),
    "minimax(1e-5, 0.3)": (to_band(1e-5, 0.3), torch.float32),
    "minimax(3e-5, 0.3)": (to_band(3e-5, 0.3), torch.float32),
}


def main(dims: list[int]) -> None:
    print(f"alpha={ALPHA}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'d':>5} {'polar factor':<24}{'seconds':>9}{'x SVD64':>9}{'x SVD32':>9}{'stored':>8}")
    for dim in dims:
        memory = AssociativeMemory(ITEMS_PER_DIM * dim, dim, ALPHA, seed=0)
        gradient = -memory.gradient_at_zero(memory.population())
        seconds = {name: float("inf") for name in RUNS}
        stored = {}
        for _ in range(ROUNDS):
            for name, (run, dtype) in RUNS.items():
                matrix = gradient.to(dtype)
                start = time.perf_counter()
                weight = run(matrix)
                seconds[name] = min(seconds[name], time.perf_counter() - start)
                if name not in stored:
                    stored[name] = memory.recall(weight.double()).count
        for name, best in seconds.items():
            ratios = [seconds[svd] / best for svd in ("SVD float64", "SVD float32")]
            print(
                f"{dim:>5} {name:<24}{best:>9.3f}{ratios[0]:>9.2f}{ratios[1]:>9.2f}"
                f"{stored[name]:>8}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.matrix_sign_cpu", description=__doc__)
    parser.add_argument("dims", nargs="*", type=int, default=[256, 1024], metavar="d")
    main(parser.parse_args().dims)
