"""The interface of a backend of the matrix sign."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from memsolve_kernels.matrix_sign.settings import Settings


class MatrixSignBackend(ABC):
    """A way to compute the matrix sign."""

    @abstractmethod
    def check(self, settings: Settings, device: torch.device) -> None:
        """Raise BackendError unless the backend honours the settings on this device."""

    @abstractmethod
    def sign(self, matrix: Tensor, settings: Settings) -> Tensor:
        """The sign of `matrix` (..., m, n), not empty, in a dtype of the backend's choice."""
