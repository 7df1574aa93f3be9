"""Groups of parameters: matrices that Muon orthogonalizes, and others for the auxiliary AdamW."""

from collections.abc import Iterable, Mapping
from typing import Any

from memsolve_kernels.errors import RangeError
from torch import Tensor, nn

from memsolve.optim.muon_checks import COUNTS, Group, holds_matrices

AUXILIARY = {
    "lr": 3e-4,
    "betas": (0.9, 0.95),
    "eps": 1e-10,
    "weight_decay": 0.0,
    "capturable": False,
}
"""Hyperparameters of AdamW with their defaults, which are those of Muon's author."""

SHARED = "maximize", "foreach", "kahan_sum"
"""Hyperparameters of every group, whose defaults are the arguments of `Muon`."""

LATER = {**COUNTS, "momentum_dtype": None, "damping_norm": "spectral", "kahan_sum": False}
"""Hyperparameters of `Muon` that optimizers pickled by earlier versions lack."""

TORCH_ONLY = "ns_coefficients", "ns_steps", "eps"
"""Hyperparameters of `torch.optim.Muon` that have no counterpart here."""

ANNOTATIONS = {
    *("params", "param_names", "use_muon", "name"),
    *("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"),  # of torch's schedulers
}
"""Names in a group that are no hyperparameters."""


def prepare_group(group: Any, defaults: Mapping[str, Any]) -> None:
    """Check the names in a new group, and give one for AdamW its defaults, in place.

    Args:
        group: as a user writes it.
        defaults: of the optimizer, for the groups of Muon.

    Raises:
        RangeError: a name that is no hyperparameter of the group, or `use_muon` is no bool.
    """
    if not isinstance(group, dict):
        return  # torch raises
    use_muon = group.setdefault("use_muon", True)
    if not isinstance(use_muon, bool):
        raise RangeError(f"use_muon is {use_muon!r}; expected True or False")
    settings = defaults if use_muon else auxiliary_defaults(defaults)
    if unknown := group.keys() - settings.keys() - ANNOTATIONS:
        raise RangeError(
            f"a group with use_muon={use_muon} has {', '.join(sorted(unknown))}; expected "
            f"some of {', '.join(settings)}"
        )
    for name, value in settings.items():
        group.setdefault(name, value)


def auxiliary_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The default hyperparameters of a group for AdamW, from those of the optimizer."""
    return {**AUXILIARY, **{name: defaults[name] for name in SHARED}}


def drop_settings_of_muon(group: Group, defaults: Mapping[str, Any]) -> None:
    """Remove the hyperparameters of Muon, which torch gives to every group, from one for AdamW."""
    if not group["use_muon"]:
        for name in defaults.keys() - auxiliary_defaults(defaults).keys():
            del group[name]


def complete_group(group: Group, fallback: Mapping[str, Any]) -> None:
    """Give a group of a state the hyperparameters that it lacks, in place.

    Args:
        group: of a state.
        fallback: the group of the optimizer that it replaces, or the optimizer's defaults.

    Raises:
        RangeError: one of them is for Muon and the other for AdamW, or the state is that of an
            Adam, such as `torch.optim.AdamW`.
    """
    if "use_muon" not in group and "betas" in group:
        raise RangeError(
            "the state is that of an Adam: a group has betas and no use_muon; "
            "expected the state of Muon, torch.optim.Muon or MuonWithAuxAdam. Start Muon without "
            "a state: its running means fill again within about 1 / (1 - momentum) steps"
        )
    use_muon = group.setdefault("use_muon", True)
    if "params" not in fallback and not use_muon:
        fallback = auxiliary_defaults(fallback)
    elif use_muon is not fallback.get("use_muon", True):
        raise RangeError(
            f"a group of the state has use_muon={use_muon}, and that of the optimizer has not; "
            "expected the same groups in the same order"
        )
    if use_muon:
        for name in TORCH_ONLY:
            group.pop(name, None)
    group.update({name: fallback[name] for name in fallback.keys() - group.keys()})


def split_params(
    model: nn.Module, exclude: Iterable[nn.Module | Tensor] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of a model as two groups for `Muon`: hidden matrices, and all others.

    Embeddings (`torch.nn.Embedding`, `EmbeddingBag`), weights tied to them, vectors, scalars and
    what is excluded go to AdamW. Exclude the head of the model, unless it is tied to an embedding,
    and matrices that are no linear maps, such as learned positions. Parameters that require no
    gradient are left out. Call it after `fully_shard` or `parallelize_module`, which replace
    parameters.

        hidden, others = split_params(model, exclude=[model.head])
        optimizer = Muon([hidden | {"lr": 0.02}, others | {"lr": 3e-4, "weight_decay": 0.01}])

    Args:
        model: whose named parameters are split.
        exclude: modules, with all of their parameters, and parameters, for AdamW.

    Returns:
        A group with `use_muon=True` and one with `use_muon=False`, of named parameters.
    """
    others = {id(param) for each in exclude for param in _parameters(each)}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            others |= {id(param) for param in module.parameters()}
    groups: tuple[dict[str, Any], dict[str, Any]] = (
        {"params": [], "param_names": [], "use_muon": True},
        {"params": [], "param_names": [], "use_muon": False},
    )
    for name, param in model.named_parameters():
        if param.requires_grad:
            is_hidden = id(param) not in others and holds_matrices(param.shape)
            group = groups[not is_hidden]
            group["params"].append(param)
            group["param_names"].append(name)
    return groups


def _parameters(part: nn.Module | Tensor) -> list[Tensor]:
    return [part] if isinstance(part, Tensor) else list(part.parameters())
