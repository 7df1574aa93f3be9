"""The facts of the example, their frequencies, and the prompts that ask for them."""

from itertools import pairwise
from typing import NamedTuple

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor

from memsolve.frequencies import power_law
from memsolve.theory import expected_distinct_items

NUM_RELATIONS = 4
"""Facts of each subject."""

NUM_ANSWERS = 256
NUM_NOISE_TOKENS = 64
"""Tokens without a meaning."""

PROMPT_LENGTH = 8
"""Tokens of a prompt."""

BUCKETS = ("head", "torso", "tail")


class Prompts(NamedTuple):
    """Prompts with their answers.

    Attributes:
        tokens: (B, PROMPT_LENGTH) int64.
        answers: (B,) int64 in `[0, NUM_ANSWERS)`.
    """

    tokens: Tensor
    answers: Tensor


class Facts:
    """`N` facts, `(subject, relation) -> answer`, with random answers that never change.

    The subject of rank `i` occurs with frequency `i^-alpha / Z`, its relations equally often. A
    prompt contains the subject at a random position among noise tokens, and ends with the
    relation: the model has to find the subject, and to know the answer for both.

    Buckets split the ranks at equal ratios: of 1024 subjects the head is the 10 most frequent, the
    torso ranks 11 to 102, the tail the rest.

    Args:
        num_facts: `N`, a multiple of `NUM_RELATIONS`, of at least 8 subjects.
        alpha: exponent of the frequencies, above 1.
        seed: of the answers.

    Raises:
        RangeError: a number of facts that is no such multiple, or too small.
    """

    def __init__(self, num_facts: int, alpha: float, *, seed: int) -> None:
        num_subjects, remainder = divmod(num_facts, NUM_RELATIONS)
        if remainder or num_subjects < 2 ** len(BUCKETS):
            raise RangeError(
                f"num_items is {num_facts}; expected a multiple of {NUM_RELATIONS}, the facts of "
                f"each subject, of at least {NUM_RELATIONS * 2 ** len(BUCKETS)}"
            )
        self.frequencies = power_law(num_subjects, alpha)
        generator = torch.Generator().manual_seed(seed)
        self.answers = torch.randint(
            NUM_ANSWERS, (num_subjects, NUM_RELATIONS), generator=generator
        )

    @property
    def num_subjects(self) -> int:
        """Number of subjects, whose tokens come first in the vocabulary."""
        return len(self.frequencies)

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens: subjects, relations and noise."""
        return self.num_subjects + NUM_RELATIONS + NUM_NOISE_TOKENS

    @property
    def buckets(self) -> list[slice]:
        """The subjects of each bucket, by rank from 0."""
        count = len(BUCKETS)
        ends = [round(self.num_subjects ** (end / count)) for end in range(1, count + 1)]
        return [slice(start, end) for start, end in pairwise([0, *ends])]

    @property
    def bucket_sizes(self) -> list[int]:
        """Number of facts in each bucket."""
        return [NUM_RELATIONS * (bucket.stop - bucket.start) for bucket in self.buckets]

    def sample(self, batch_size: int, generator: torch.Generator) -> Prompts:
        """Prompts for facts sampled with their frequencies, by a generator on the CPU."""
        subjects = self.frequencies.multinomial(batch_size, True, generator=generator)
        relations = torch.randint(NUM_RELATIONS, (batch_size,), generator=generator)
        return self._prompts(subjects, relations, generator)

    def all_prompts(self) -> Prompts:
        """One prompt for each fact, ordered by subject, the same in every call."""
        subjects = torch.arange(self.num_subjects).repeat_interleave(NUM_RELATIONS)
        relations = torch.arange(NUM_RELATIONS).repeat(self.num_subjects)
        return self._prompts(subjects, relations, torch.Generator().manual_seed(0))

    def count_by_bucket(self, recovered: Tensor) -> list[int]:
        """Number of recovered facts in each bucket; (N,) bool in the order of `all_prompts`."""
        by_subject = recovered.view(-1, NUM_RELATIONS).sum(1)
        return [int(by_subject[bucket].sum()) for bucket in self.buckets]

    def expected_distinct(self, num_samples: int) -> list[float]:
        """Expected number of facts in each bucket that so many samples contain.

        It bounds the number of facts that a model can have learned.
        """
        fact_frequencies = self.frequencies / NUM_RELATIONS
        counts = torch.tensor([num_samples])
        return [
            NUM_RELATIONS * float(expected_distinct_items(fact_frequencies[bucket], counts))
            for bucket in self.buckets
        ]

    def _prompts(self, subjects: Tensor, relations: Tensor, generator: torch.Generator) -> Prompts:
        noise, count = self.num_subjects + NUM_RELATIONS, len(subjects)
        tokens = torch.randint(
            noise, noise + NUM_NOISE_TOKENS, (count, PROMPT_LENGTH), generator=generator
        )
        positions = torch.randint(PROMPT_LENGTH - 1, (count,), generator=generator)
        tokens[torch.arange(count), positions] = subjects
        tokens[:, -1] = self.num_subjects + relations
        return Prompts(tokens, self.answers[subjects, relations])
