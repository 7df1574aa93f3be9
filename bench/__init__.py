"""Benchmarks: one registry of cases, and everything that is made from it."""

import os

# Threads that spin while they wait slow each other by 10 times and more where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
