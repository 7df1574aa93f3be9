"""A small language model learns the same from our loss and Muon as from torch's."""

from collections.abc import Iterator
from statistics import mean, stdev

import memsolve_kernels as mk
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention
from torch.optim import AdamW, Optimizer

from memsolve.optim import Muon

VOCABULARY, DIM, LENGTH, BATCH, LAYERS, STEPS = 64, 32, 16, 8, 2, 40
IGNORED = -100


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(DIM, 3 * DIM, bias=False), nn.Linear(DIM, DIM, bias=False)
        self.up, self.down = (
            nn.Linear(DIM, 4 * DIM, bias=False),
            nn.Linear(4 * DIM, DIM, bias=False),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        heads = self.mix(nn.functional.layer_norm(hidden, (DIM,))).unflatten(-1, (3, 2, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(mixed.transpose(1, 2).flatten(2))
        wide = nn.functional.gelu(self.up(nn.functional.layer_norm(hidden, (DIM,))))
        added: Tensor = self.down(wide)
        return hidden + added


class Model(nn.Module):
    """Tokens to the hidden states that the tied classifier takes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(VOCABULARY, DIM) / DIM**0.5)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.layers(self.table[tokens] * DIM**0.5)
        return nn.functional.layer_norm(hidden, (DIM,))


def fused_loss(hidden: Tensor, table: Tensor, labels: Tensor) -> Tensor:
    hidden, table = hidden.bfloat16().flatten(0, 1), table.bfloat16()
    return mk.softmax_loss(hidden, table, labels.flatten(), ignore_index=IGNORED)


def reference_loss(hidden: Tensor, table: Tensor, labels: Tensor) -> Tensor:
    logits = linear(hidden, table).flatten(0, 1)
    return cross_entropy(logits, labels.flatten(), ignore_index=IGNORED)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Walks on a graph where each token has two successors, the first nine times of ten.

    The label of the last token is ignored, since it has no next one.
    """
    successors = torch.randint(VOCABULARY, (VOCABULARY, 2), generator=seeded(0))
    while True:
        tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=generator)
        rare = (torch.rand(BATCH, LENGTH, generator=generator) < 0.1).long()
        for place in range(1, LENGTH):
            tokens[:, place] = successors[tokens[:, place - 1], rare[:, place]]
        labels = tokens.roll(-1, 1)
        labels[:, -1] = IGNORED
        yield tokens, labels


def train(seed: int, *, ours: bool) -> list[float]:
    """The loss before each step."""
    torch.manual_seed(seed)
    model, loss_of = Model(), fused_loss if ours else reference_loss
    matrices = list(model.layers.parameters())
    muon: Optimizer
    if ours:
        muon = Muon(matrices, lr=0.02, weight_decay=0.1, schedule="muon", dtype=torch.bfloat16)
    else:
        muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1)
    optimizers = [muon, AdamW([model.table], lr=0.01)]
    losses = []
    for _, (tokens, labels) in zip(range(STEPS), batches(seeded(seed)), strict=False):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model(tokens), model.table, labels)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_trains_to_the_same_loss_within_seeds() -> None:
    fused, reference = ([train(seed, ours=ours) for seed in range(3)] for ours in (True, False))
    starts, ends = [run[0] for run in fused], [mean(run[-10:]) for run in fused]
    peers = [mean(run[-10:]) for run in reference]
    assert all(abs(run[0] - peer[0]) < 0.01 for run, peer in zip(fused, reference, strict=True))
    assert mean(ends) < mean(starts) / 3
    assert abs(mean(ends) - mean(peers)) < stdev(peers)
