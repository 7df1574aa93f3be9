"""The model of the example: one layer of attention and an MLP between embeddings and a head."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from memsolve.examples.factual_recall.facts import ANSWERS, LENGTH, Prompts
from memsolve.recall import recovered

WIDER = 4
"""Width of the MLP, in widths of the model."""


class Model(nn.Module):
    """From words to the logits of the answers.

    The last word attends to all; nothing else is computed, since nothing else is asked.

    Args:
        num_words: different words.
        dim: width `d`.
    """

    def __init__(self, num_words: int, dim: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(num_words, dim) * dim**-0.5)
        self.places = nn.Parameter(torch.zeros(LENGTH, dim))
        self.query, self.key, self.value, self.mix = (
            nn.Linear(dim, dim, bias=False) for _ in range(4)
        )
        self.up, self.down = nn.Linear(dim, WIDER * dim), nn.Linear(WIDER * dim, dim)
        self.head = nn.Parameter(torch.randn(ANSWERS, dim) * dim**-0.5)

    def forward(self, words: Tensor) -> Tensor:
        """The logits, (B, ANSWERS), of the words of prompts, (B, LENGTH)."""
        return self.hidden(words) @ self.head.T

    def hidden(self, words: Tensor) -> Tensor:
        """What the head takes, (B, d)."""
        seen = _normed(self.words[words] + self.places)
        last = seen[:, -1:]
        gathered = scaled_dot_product_attention(self.query(last), self.key(seen), self.value(seen))
        state = (last + self.mix(gathered))[:, 0]
        return _normed(state + self.down(gelu(self.up(_normed(state)))))

    def matrices(self) -> list[nn.Parameter]:
        """Those of attention and MLP, between embeddings and head: what Muon is for."""
        layers = self.query, self.key, self.value, self.mix, self.up, self.down
        return [param for layer in layers for param in layer.parameters() if param.ndim == 2]

    @torch.no_grad()
    def recalled(self, prompts: Prompts) -> Tensor:
        """Whether the largest logit is the answer's, (B,) bool; a tie is none."""
        return recovered(self.hidden(prompts.words), self.head, prompts.answers)


def _normed(states: Tensor) -> Tensor:
    return layer_norm(states, states.shape[-1:])
