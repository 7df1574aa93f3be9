"""Every case, declared once; all benchmarks, tables and gates are made from this list."""

from bench.cases import matrix_sign, optimizer, softmax
from bench.registry import Case

CASES: list[Case] = [*softmax.CASES, *matrix_sign.CASES, *optimizer.CASES]
