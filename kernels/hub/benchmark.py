"""Workloads of `kernels benchmark`, each beside torch with full logits, or its decomposition."""

import torch
from kernels.benchmark import Benchmark
from torch.nn.functional import cross_entropy


class SoftmaxLossBenchmark(Benchmark):
    """The loss of a language model's head, and its gradient by the hidden states."""

    seed = 0

    def setup(self) -> None:
        """A batch of tokens and a vocabulary, smaller on a CPU."""
        large = self.device != "cpu"
        tokens, items, dim = (4096, 65536, 256) if large else (256, 8192, 64)
        dtype = torch.bfloat16 if large else torch.float32
        self.hidden = torch.randn(tokens, dim, device=self.device, dtype=dtype)
        self.classes = torch.randn(items, dim, device=self.device, dtype=dtype)
        self.labels = torch.randint(items, (tokens,), device=self.device)
        self.ones = torch.ones(tokens, device=self.device)

    def benchmark_loss(self) -> None:
        """The loss of every token."""
        inputs = self.hidden, self.classes, self.labels
        self.out = self.kernel.softmax_loss(*inputs, reduction="none")

    def verify_loss(self) -> torch.Tensor:
        """The same from full logits."""
        logits = (self.hidden @ self.classes.T).float()
        return cross_entropy(logits, self.labels, reduction="none")

    def benchmark_gradient(self) -> None:
        """The gradient of the sum of the losses."""
        inputs = self.hidden, self.classes, self.labels, self.ones
        _, self.out = self.kernel.softmax_gradient(*inputs)

    def verify_gradient(self) -> torch.Tensor:
        """The same from full logits."""
        odds = (self.hidden @ self.classes.T).float().softmax(1)
        odds[torch.arange(len(odds), device=self.device), self.labels] -= 1
        return (odds.to(self.classes.dtype) @ self.classes).float()


class MatrixSignBenchmark(Benchmark):
    """The update of Muon."""

    seed = 0

    def setup(self) -> None:
        """Momenta of one shape, as one batch."""
        size = 512 if self.device != "cpu" else 128
        self.momenta = torch.randn(4, size, 2 * size, device=self.device)

    def benchmark_sign(self) -> None:
        """The polar factor of each."""
        self.out = self.kernel.matrix_sign(self.momenta)

    def verify_sign(self) -> torch.Tensor:
        """The same by a singular value decomposition."""
        left, _, right = torch.linalg.svd(self.momenta, full_matrices=False)
        return left @ right
