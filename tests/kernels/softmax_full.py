"""The losses of `softmax_loss` and `softmax_statistics` as they are defined, from all logits."""

from dataclasses import dataclass, field, replace
from typing import Any

import memsolve_kernels as mk
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.kernels.softmax_cases import Case, relative_error

IGNORED = -100
SUMS_OF_WEIGHTS = 2.0**-19
"""The relative error of sums in float32, which the gradient by a bias has in any dtype."""


@dataclass(frozen=True)
class Options:
    """Options of a loss; tensors in float64."""

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    temperature: float | Tensor | None = None
    bias: Tensor | None = None
    class_weights: Tensor | None = None

    def arguments(self, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
        """Of our functions, with tensors in a dtype."""
        items = vars(self).items()
        return {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in items}


def every_option(items: int, seed: int = 1) -> Options:
    generator = torch.Generator().manual_seed(seed)
    bias, class_weights = torch.rand(2, items, generator=generator, dtype=torch.float64)
    temperature = torch.tensor(1.5, dtype=torch.float64)
    return Options(0.02, 0.1, temperature, 4 * bias - 2, class_weights)


def statistics(case: Case, options: Options) -> dict[str, Tensor]:
    """Loss, log-partition, entropy and target logit of each query, zero where ignored."""
    logits = case.queries @ case.outputs.T
    logits = logits if options.bias is None else logits + options.bias
    logits = logits if options.temperature is None else logits / options.temperature
    log_partition, ignored = logits.logsumexp(1), case.targets == IGNORED
    targets = case.targets.masked_fill(ignored, 0)
    weights = options.class_weights
    loss = cross_entropy(
        logits, targets, weights, reduction="none", label_smoothing=options.label_smoothing
    )
    penalty = options.z_loss * log_partition**2
    loss = loss + (penalty if weights is None else weights[targets] * penalty)
    logs = logits - log_partition[:, None]
    results = {
        "loss": loss,
        "log_partition": log_partition,
        "entropy": -(logs.exp() * logs).sum(1),
        "target_logit": logits.gather(1, targets[:, None])[:, 0],
    }
    return {name: each.masked_fill(ignored, 0) for name, each in results.items()}


def mean_loss(case: Case, options: Options) -> Tensor:
    """`softmax_loss` without weights."""
    kept = (case.targets != IGNORED).double()
    if options.class_weights is not None:
        kept = kept * options.class_weights[case.targets.masked_fill(kept == 0, 0)]
    total = kept.sum()
    return statistics(case, options)["loss"].sum() / (total if total > 0 else 1)


def random_bias(items: int) -> Tensor:
    """In float32, far from zero."""
    return (8 + Case.random(1, items, 1, seed=1).outputs[:, 0]).float()


def by_bias(case: Case, bias: Tensor, **arguments: Any) -> Tensor:
    """The gradient by a bias of a loss with label smoothing and z-loss, by our functions."""
    queries, outputs, targets, _ = case.args
    bias = bias.clone().requires_grad_()
    losses: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.02, "bias": bias}
    loss = mk.softmax_loss(queries, outputs, targets, **(losses | arguments))
    return torch.autograd.grad(loss, bias)[0]


def bias_error(case: Case, **arguments: Any) -> float:
    """The relative error of `by_bias` against all logits in float64."""
    bias = random_bias(len(case.outputs))
    ours = by_bias(case, bias.to(case.queries.device), **arguments).cpu()
    case, exact = case.on("cpu").to(torch.float64), bias.double().requires_grad_()
    loss = mean_loss(case, Options(z_loss=0.02, label_smoothing=0.1, bias=exact))
    return relative_error(ours, torch.autograd.grad(loss, exact)[0])


@dataclass(frozen=True)
class Tracked:
    """Leaves of a graph, of a case and its options."""

    case: Case
    options: Options
    leaves: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, case: Case, options: Options, dtype: torch.dtype = torch.float64) -> "Tracked":
        def leaf(tensor: Tensor, dtype: torch.dtype) -> Tensor:
            return tensor.detach().to(dtype).clone().requires_grad_()

        leaves = {name: leaf(getattr(case, name), dtype) for name in ("queries", "outputs")}
        sums = torch.float64 if dtype == torch.float64 else torch.float32
        for name in ("temperature", "bias"):
            value = getattr(options, name)
            if isinstance(value, Tensor):
                leaves[name] = leaf(value, sums)
        of_case = {k: v for k, v in leaves.items() if k in ("queries", "outputs")}
        rest: dict[str, Any] = {k: v for k, v in leaves.items() if k not in of_case}
        if options.class_weights is not None:
            rest["class_weights"] = options.class_weights.to(sums)
        return cls(replace(case, **of_case), replace(options, **rest), leaves)

    def on(self, device: str) -> "Tracked":
        """The same leaves, from another device."""
        if device == "cpu":
            return self
        leaves = {k: v.detach().to(device).requires_grad_() for k, v in self.leaves.items()}
        weights = self.options.class_weights
        rest: dict[str, Any] = {k: v for k, v in leaves.items() if k not in ("queries", "outputs")}
        rest |= {} if weights is None else {"class_weights": weights.to(device)}
        case = replace(self.case.on(device), queries=leaves["queries"], outputs=leaves["outputs"])
        return Tracked(case, replace(self.options, **rest), leaves)

    def gradients(self, total: Tensor) -> dict[str, Tensor]:
        gradients = torch.autograd.grad(total, list(self.leaves.values()))
        return dict(zip(self.leaves, gradients, strict=True))
