"""Every case, declared once; all benchmarks, tables and gates are made from these lists."""

from bench.cases import matrix_sign, memory, softmax
from bench.registry import Case

FAMILIES = softmax, matrix_sign, memory

CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
"""What the table shows: sizes at which the functions are used."""

QUICK: list[Case] = [case for family in FAMILIES for case in family.QUICK]
"""Small enough to find a quiet moment on a busy machine: what the gate compares."""
