"""`SoftmaxHead`, and the recipe for models of transformers, compared with full logits."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import SoftmaxHead
from memsolve_kernels.errors import DtypeError, ShapeError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from tests.ranks import run_ranks

DOCS = Path(__file__).parents[2] / "docs" / "kernels.md"
DIM, ITEMS = 6, 11


def tokens(dtype: torch.dtype = torch.float64, batch: int = 3) -> tuple[Tensor, Tensor]:
    """Hidden states (batch, 5, d) and targets, of which one is ignored."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(batch, 5, DIM, generator=generator, dtype=dtype)
    targets = torch.randint(ITEMS, (batch, 5), generator=generator)
    targets[0, 1] = -100
    return hidden.requires_grad_(), targets


def linear_like(head: SoftmaxHead) -> nn.Linear:
    linear = nn.Linear(DIM, ITEMS, bias=head.bias is not None, dtype=head.weight.dtype)
    linear.load_state_dict(head.state_dict())
    return linear


def torch_loss(linear: nn.Linear, hidden: Tensor, targets: Tensor, **options: Any) -> Tensor:
    return cross_entropy(linear(hidden).flatten(0, 1), targets.flatten(), **options)


@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_those_of_a_linear_layer(bias: bool) -> None:
    head = SoftmaxHead(DIM, ITEMS, bias=bias, dtype=torch.float64)
    linear, (hidden, targets) = linear_like(head), tokens()
    loss, truth = head(hidden, targets), torch_loss(linear, hidden, targets)
    torch.testing.assert_close(loss, truth)
    ours = torch.autograd.grad(loss, (hidden, *head.parameters()))
    torch.testing.assert_close(ours, torch.autograd.grad(truth, (hidden, *linear.parameters())))
    torch.testing.assert_close(head(hidden), linear(hidden))
    torch.testing.assert_close(head.logits(hidden), linear(hidden))


def test_options_reach_the_loss() -> None:
    head = SoftmaxHead(DIM, ITEMS, dtype=torch.float64, reduction="none", backend="torch")
    linear, (hidden, targets) = linear_like(head), tokens()
    losses = torch_loss(linear, hidden, targets, reduction="none").view_as(targets)
    torch.testing.assert_close(head(hidden, targets), losses)
    weights = torch.rand(targets.shape, dtype=torch.float64)
    weighted = head(hidden, targets, reduction="weighted", weights=weights)
    torch.testing.assert_close(weighted, (weights * losses).sum())
    assert "reduction=none" in repr(head)
    smoothed = torch_loss(linear, hidden / 0.7, targets, label_smoothing=0.1)
    options = {"reduction": "weighted", "label_smoothing": 0.1, "temperature": 0.7}
    torch.testing.assert_close(head(hidden, targets, **options), smoothed)


def test_tensors_among_the_options_belong_to_the_module() -> None:
    temperature = nn.Parameter(torch.tensor(1.5))
    head = SoftmaxHead(DIM, ITEMS, temperature=temperature, class_weights=torch.ones(ITEMS))
    assert [name for name, _ in head.named_parameters()] == ["temperature", "weight"]
    assert list(head.state_dict()) == ["temperature", "weight"]
    head.double()
    linear = nn.Linear(DIM, ITEMS, bias=False, dtype=torch.float64)
    linear.weight = head.weight
    hidden, targets = tokens()
    truth = torch_loss(linear, hidden / 1.5, targets)
    torch.testing.assert_close(head(hidden, targets), truth)
    torch.testing.assert_close(
        head(hidden, targets, temperature=None), torch_loss(linear, hidden, targets)
    )
    head(hidden, targets).backward()
    assert head.temperature.grad is not None


def test_a_tied_weight_is_one_parameter() -> None:
    embedding = nn.Embedding(ITEMS, DIM)
    head = SoftmaxHead(DIM, ITEMS, tied_to=embedding)
    model = nn.ModuleList([embedding, head])
    assert head.weight is embedding.weight
    assert len(list(model.parameters())) == 1
    hidden, targets = tokens(torch.float32)
    head(hidden, targets).backward()
    assert embedding.weight.grad is not None


def test_a_linear_layer_lends_its_bias_too() -> None:
    linear = nn.Linear(DIM, ITEMS, dtype=torch.float64)
    head, (hidden, targets) = SoftmaxHead(DIM, ITEMS, tied_to=linear), tokens()
    assert head.bias is linear.bias
    torch.testing.assert_close(head(hidden, targets), torch_loss(linear, hidden, targets))
    own = SoftmaxHead(DIM, ITEMS, tied_to=nn.Embedding(ITEMS, DIM), bias=True)
    assert own.bias is not None
    assert not own.bias.any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected \(num_items, dim\) = \(11, 6\)"):
        SoftmaxHead(DIM, ITEMS, tied_to=nn.Embedding(DIM, ITEMS))
    with pytest.raises(DtypeError, match="ReLU, which has no parameter"):
        SoftmaxHead(DIM, ITEMS, tied_to=nn.ReLU())
    hidden, targets = tokens(torch.float32)
    with pytest.raises(ShapeError, match=r"\(15,\)"):
        SoftmaxHead(DIM, ITEMS)(hidden, targets.flatten())


def test_autocast_casts_what_a_linear_layer_casts() -> None:
    head = SoftmaxHead(DIM, ITEMS)
    hidden, targets = tokens(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(hidden, targets)
        assert head(hidden).dtype == torch.bfloat16
    rounded = hidden.bfloat16().double() @ head.weight.bfloat16().double().T
    truth = cross_entropy(rounded.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(loss.double(), truth, rtol=1e-6, atol=0)
    loss.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # these two are torch's own
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_a_break() -> None:
    head = SoftmaxHead(DIM, ITEMS, dtype=torch.float64)
    hidden, targets = tokens()
    compiled = torch.compile(head, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(head(hidden, targets), (hidden, head.weight))
    loss = compiled(hidden, targets)
    torch.testing.assert_close(torch.autograd.grad(loss, (hidden, head.weight)), expected)
    torch.compiler.reset()


def sharded() -> None:
    """On one rank: under FSDP2 with tokens of its own, and with a weight that stays sharded."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    head = SoftmaxHead(DIM, ITEMS, dtype=torch.float64, ignore_index=None)
    hidden, targets = (each.detach() for each in tokens(batch=2 * size))
    targets[0, 1] = 3
    truth = head(hidden, targets)
    (gradient,) = torch.autograd.grad(truth, head.weight)

    mesh = init_device_mesh("cpu", (size,))
    fully_shard(head, mesh=mesh)
    loss = head(hidden.chunk(size)[rank], targets.chunk(size)[rank])
    loss.backward()
    assert isinstance(head.weight.grad, DTensor)
    torch.testing.assert_close(head.weight.grad.full_tensor(), gradient)
    dist.all_reduce(mean := loss.detach() / size)
    torch.testing.assert_close(mean, truth.detach())

    linear = nn.Linear(DIM, ITEMS, dtype=torch.float64)
    head = SoftmaxHead(DIM, ITEMS, bias=True, dtype=torch.float64)
    truth = torch_loss(linear, hidden, targets)
    truth.backward()
    for name, param in linear.named_parameters():
        setattr(head, name, nn.Parameter(distribute_tensor(param.detach(), mesh, [Shard(0)])))
    loss = head(hidden, targets)
    loss.backward()
    torch.testing.assert_close(loss, truth.detach())
    for name, param in linear.named_parameters():
        ours = getattr(head, name).grad
        assert isinstance(ours, DTensor)
        torch.testing.assert_close(ours.full_tensor(), param.grad)


def test_sharded_parameters_give_the_loss_and_gradient_of_one_process() -> None:
    run_ranks(sharded, 2)


class Outputs(dict[str, Any]):
    """As transformers' ModelOutput: keys that are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(ITEMS, DIM)
        self.mix = nn.Linear(DIM, DIM)

    def forward(self, input_ids: Tensor, scale: float = 1.0) -> Outputs:
        return Outputs(last_hidden_state=scale * self.mix(self.embed_tokens(input_ids)).tanh())


class CausalModel(nn.Module):
    """The protocol of transformers' causal language models, with its loss."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.model = Body()
        self.lm_head: nn.Module = nn.Linear(DIM, ITEMS, bias=not tied)
        if tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def base_model(self) -> nn.Module:
        return self.model

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, module: nn.Module) -> None:
        self.lm_head = module

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **inputs: Any) -> Outputs:
        num_items = inputs.pop("num_items_in_batch", None)
        logits = self.lm_head(self.model(input_ids, **inputs).last_hidden_state)
        outputs = Outputs(logits=logits)
        if labels is not None:
            shifted = pad(labels, (0, 1), value=-100)[..., 1:]
            reduction = "mean" if num_items is None else "sum"
            loss = cross_entropy(
                logits.flatten(0, 1), shifted.flatten(), ignore_index=-100, reduction=reduction
            )
            outputs["loss"] = loss if num_items is None else loss / num_items
        return outputs


def recipe() -> Any:
    """The function of docs/kernels.md."""
    (block,) = re.findall(r"```python\n([^`]*def fuse_loss[^`]*)```", DOCS.read_text())
    names: dict[str, Any] = {}
    exec(block, names)
    return names["fuse_loss"]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("num_items", [None, 7, torch.tensor(7)], ids=str)
def test_the_recipe_gives_the_loss_and_gradients_of_full_logits(
    tied: bool, num_items: int | Tensor | None
) -> None:
    torch.manual_seed(0)
    model = CausalModel(tied).double()
    state = model.state_dict()
    input_ids = torch.randint(ITEMS, (2, 5))
    labels = input_ids.masked_fill(torch.rand(2, 5) < 0.3, -100)
    inputs = {"labels": labels, "num_items_in_batch": num_items, "scale": 0.7}
    truth = model(input_ids, **inputs).loss
    logits = model(input_ids).logits
    truth.backward()
    gradients = [each.grad for each in model.parameters()]
    model.zero_grad()

    recipe()(model)
    outputs = model(input_ids, **inputs)
    assert "logits" not in outputs
    torch.testing.assert_close(outputs.loss, truth)
    outputs.loss.backward()
    torch.testing.assert_close([each.grad for each in model.parameters()], gradients)
    torch.testing.assert_close(model(input_ids).logits, logits)
    model.load_state_dict(state)
