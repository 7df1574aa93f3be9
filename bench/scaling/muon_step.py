"""The duration of a step of Muon on each rank of a launch by torchrun; rank 0 prints it."""

import time
from statistics import median

import torch
import torch.distributed as dist

from memsolve.optim import Muon

MATRICES, DIM, STEPS = 16, 512, 5


def main() -> None:
    dist.init_process_group("gloo")
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.zeros(DIM, DIM)) for _ in range(MATRICES)]
    for param in params:
        param.grad = torch.randn(DIM, DIM, generator=generator)
    optimizer = Muon(params, lr=0.1, process_group=dist.group.WORLD)
    optimizer.step()  # which imports and allocates
    durations = []
    for _ in range(STEPS):
        dist.barrier()
        start = time.perf_counter()
        optimizer.step()
        dist.barrier()
        durations.append(time.perf_counter() - start)
    if dist.get_rank() == 0:
        print(median(durations))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
