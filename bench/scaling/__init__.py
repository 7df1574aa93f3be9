"""How work scales over workers and GPUs, by formulas and by a simulation: `docs/scaling.md`."""
