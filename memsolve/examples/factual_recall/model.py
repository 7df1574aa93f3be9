"""The model of the example: one layer of attention and an MLP between embeddings and a head."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from memsolve.examples.factual_recall.facts import NUM_ANSWERS, PROMPT_LENGTH, Prompts
from memsolve.recall import recovered

MLP_RATIO = 4
"""Width of the MLP, in widths of the model."""


class FactModel(nn.Module):
    """A transformer layer from tokens to the logits of the answers.

    Only the last token attends, to all tokens: the answer depends on no other state.

    Args:
        vocabulary_size: number of tokens.
        dim: width `d`.
    """

    def __init__(self, vocabulary_size: int, dim: int) -> None:
        super().__init__()
        self.token_embeddings = nn.Parameter(torch.randn(vocabulary_size, dim) * dim**-0.5)
        self.position_embeddings = nn.Parameter(torch.zeros(PROMPT_LENGTH, dim))
        self.query, self.key, self.value, self.output = (
            nn.Linear(dim, dim, bias=False) for _ in range(4)
        )
        self.up, self.down = nn.Linear(dim, MLP_RATIO * dim), nn.Linear(MLP_RATIO * dim, dim)
        self.head = nn.Parameter(torch.randn(NUM_ANSWERS, dim) * dim**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits, (B, NUM_ANSWERS), for tokens (B, PROMPT_LENGTH)."""
        return self.hidden(tokens) @ self.head.T

    def hidden(self, tokens: Tensor) -> Tensor:
        """The input of the head, (B, d)."""
        states = _normalize(self.token_embeddings[tokens] + self.position_embeddings)
        last = states[:, -1:]
        attended = scaled_dot_product_attention(
            self.query(last), self.key(states), self.value(states)
        )
        state = (last + self.output(attended))[:, 0]
        return _normalize(state + self.down(gelu(self.up(_normalize(state)))))

    def matrices(self) -> list[nn.Parameter]:
        """The weights of attention and MLP, without embeddings and head: those meant for Muon."""
        layers = self.query, self.key, self.value, self.output, self.up, self.down
        return [param for layer in layers for param in layer.parameters() if param.ndim == 2]

    @torch.no_grad()
    def recovers(self, prompts: Prompts) -> Tensor:
        """Whether the answer has the largest logit, (B,) bool; False for a tie."""
        return recovered(self.hidden(prompts.tokens), self.head, prompts.answers)


def _normalize(states: Tensor) -> Tensor:
    return layer_norm(states, states.shape[-1:])
