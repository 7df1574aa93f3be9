"""Optimizers whose order on a leaderboard is known before it runs."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.optim import Muon


class SameSGD(torch.optim.SGD):
    """SGD under another name."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=1.0)


class DamagedSGD(torch.optim.SGD):
    """SGD that loses half of its update: the outputs of every other coordinate stay unchanged."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=1.0)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step along half of the gradient."""
        for param in self.param_groups[0]["params"]:
            param.grad[::2] = 0
        super().step()


class RotatedMuon(Muon):
    """Muon whose update is rotated by a random orthogonal matrix, so that it points nowhere."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=1.0, momentum=0.0)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step of Muon on a rotated gradient."""
        for param in self.param_groups[0]["params"]:
            param.grad = rotation(param) @ param.grad
        super().step()


class WithoutState:
    """Two optimizers in turn: a chain that has groups and steps, and no state."""

    def __init__(self, params: Any) -> None:
        self.chain: list[Optimizer] = [torch.optim.SGD(params, lr=1.0)]
        self.param_groups = self.chain[0].param_groups

    def step(self) -> None:
        """Step each of the chain."""
        for optimizer in self.chain:
            optimizer.step()


def rotation(like: Tensor) -> Tensor:
    """A random orthogonal matrix, always the same."""
    size, generator = len(like), torch.Generator().manual_seed(0)
    orthogonal: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return orthogonal.to(like)
