"""The harness of tests on several ranks."""

import os

import pytest
import torch
import torch.distributed as dist

from tests.ranks import run_ranks


def test_every_rank_answers_in_order() -> None:
    assert run_ranks(_sum_of_ranks, 3, 10) == [(0, 13.0), (1, 13.0), (2, 13.0)]


def test_an_error_of_a_rank_fails_the_test_while_others_wait() -> None:
    with pytest.raises(AssertionError, match=r"rank 1 of 2:[\s\S]*ValueError: on purpose"):
        run_ranks(_one_raises, 2)


def test_a_rank_that_ends_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="rank 1 ended"):
        run_ranks(_one_ends, 2)


def _sum_of_ranks(start: int) -> tuple[int, float]:
    value = torch.tensor([float(dist.get_rank() + (start if dist.get_rank() == 0 else 0))])
    dist.all_reduce(value)
    return dist.get_rank(), float(value)


def _one_raises() -> None:
    if dist.get_rank() == 1:
        raise ValueError("on purpose")
    dist.barrier()


def _one_ends() -> None:
    if dist.get_rank() == 1:
        os._exit(3)
    dist.barrier()
