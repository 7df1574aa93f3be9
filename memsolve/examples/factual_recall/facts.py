"""The facts of the example, how often each is met, and the prompts that ask for them."""

from itertools import pairwise
from typing import NamedTuple

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor

from memsolve.problem import power_law
from memsolve.theory import expected_distinct_items

RELATIONS = 4
"""Facts of each subject."""

ANSWERS = 256
NOISE = 64
"""Words that mean nothing."""

LENGTH = 8
"""Words of a prompt."""

BUCKETS = ("head", "torso", "tail")


class Prompts(NamedTuple):
    """Questions with their answers.

    Attributes:
        words: (B, LENGTH) int64.
        answers: (B,) int64 in `[0, ANSWERS)`.
    """

    words: Tensor
    answers: Tensor


class Facts:
    """`N` facts, `(subject, relation) -> answer`, each answer drawn at random once and for all.

    The subject of rank `i` is met with frequency `i^-alpha / Z`, its relations equally often. A
    prompt holds the subject at a random place among words that mean nothing, and ends with the
    relation: the model has to find the subject, and to know the answer of the two.

    Buckets cut the ranks at equal ratios: of 1024 subjects the head is the 10 most frequent, the
    torso ranks 11 to 102, the tail the rest.

    Args:
        num_facts: `N`, a multiple of `RELATIONS`, of at least 8 subjects.
        alpha: exponent of the frequencies, above 1.
        seed: of the answers.

    Raises:
        RangeError: facts that make no whole subjects, or too few.
    """

    def __init__(self, num_facts: int, alpha: float, *, seed: int) -> None:
        subjects, left = divmod(num_facts, RELATIONS)
        if left or subjects < 2 ** len(BUCKETS):
            raise RangeError(
                f"num_items is {num_facts}; expected a multiple of {RELATIONS}, the facts of each "
                f"subject, of at least {RELATIONS * 2 ** len(BUCKETS)}"
            )
        self.frequencies = power_law(subjects, alpha)
        generator = torch.Generator().manual_seed(seed)
        self.answers = torch.randint(ANSWERS, (subjects, RELATIONS), generator=generator)

    @property
    def num_words(self) -> int:
        """Different words of prompts: subjects, relations and noise."""
        return len(self.frequencies) + RELATIONS + NOISE

    @property
    def buckets(self) -> list[slice]:
        """The subjects of each bucket, by rank from 0."""
        thirds = len(BUCKETS)
        ends = [round(len(self.frequencies) ** (end / thirds)) for end in range(1, thirds + 1)]
        return [slice(start, end) for start, end in pairwise([0, *ends])]

    @property
    def sizes(self) -> list[int]:
        """Facts of each bucket."""
        return [RELATIONS * (bucket.stop - bucket.start) for bucket in self.buckets]

    def draw(self, batch_size: int, generator: torch.Generator) -> Prompts:
        """Prompts about facts drawn by their frequencies, from a generator of the CPU."""
        subjects = self.frequencies.multinomial(batch_size, True, generator=generator)
        relations = torch.randint(RELATIONS, (batch_size,), generator=generator)
        return self._prompts(subjects, relations, generator)

    def all(self) -> Prompts:
        """One prompt a fact, always the same ones, by subject."""
        subjects = torch.arange(len(self.frequencies)).repeat_interleave(RELATIONS)
        relations = torch.arange(RELATIONS).repeat(len(self.frequencies))
        return self._prompts(subjects, relations, torch.Generator().manual_seed(0))

    def by_bucket(self, recalled: Tensor) -> list[int]:
        """How many facts of each bucket, of `recalled` (N,) bool, in the order of `all`."""
        by_subject = recalled.view(-1, RELATIONS).sum(1)
        return [int(by_subject[bucket].sum()) for bucket in self.buckets]

    def met(self, draws: int) -> list[float]:
        """Expected facts of each bucket that so many draws have met: none other can be known."""
        each = self.frequencies / RELATIONS
        once = torch.tensor([draws])
        return [
            RELATIONS * float(expected_distinct_items(each[bucket], once))
            for bucket in self.buckets
        ]

    def _prompts(self, subjects: Tensor, relations: Tensor, generator: torch.Generator) -> Prompts:
        first, count = len(self.frequencies) + RELATIONS, len(subjects)
        words = torch.randint(first, first + NOISE, (count, LENGTH), generator=generator)
        place = torch.randint(LENGTH - 1, (count,), generator=generator)
        words[torch.arange(count), place] = subjects
        words[:, -1] = len(self.frequencies) + relations
        return Prompts(words, self.answers[subjects, relations])
