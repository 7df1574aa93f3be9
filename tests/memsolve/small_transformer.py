"""A transformer of two layers, for tests of Muon with its auxiliary AdamW."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

DIM, HEADS, VOCABULARY, LENGTH = 32, 2, 12, 8


class Block(nn.Module):
    """Attention and an MLP, each after a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.mixed, self.output = nn.Linear(DIM, 3 * DIM, bias=False), nn.Linear(DIM, DIM)
        self.up, self.down = nn.Linear(DIM, 2 * DIM), nn.Linear(2 * DIM, DIM)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, T, d)."""
        parts = self.mixed(self.norm(states)).unflatten(-1, (3, HEADS, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.output(attended.transpose(1, 2).flatten(2))
        result: Tensor = states + self.down(gelu(self.up(self.mlp_norm(states))))
        return result


class Transformer(nn.Module):
    """From tokens (B, T) to the mean loss of the next ones; the same on every rank."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.positions = nn.Embedding(VOCABULARY, DIM), nn.Embedding(LENGTH, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(DIM, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """The loss, a scalar."""
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        states = self.embedding(inputs) + self.positions.weight[: inputs.shape[1]]
        for block in self.blocks:
            states = block(states)
        return cross_entropy(self.head(states).flatten(0, 1), targets.flatten())


def sequences(step: int) -> Tensor:
    """Tokens (B, T) that count up from a random one, by a random stride of one or two."""
    generator = torch.Generator().manual_seed(step)
    start = torch.randint(VOCABULARY, (16, 1), generator=generator)
    stride = torch.randint(1, 3, (16, 1), generator=generator)
    return (start + stride * torch.arange(LENGTH + 1)) % VOCABULARY
