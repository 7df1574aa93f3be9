"""Optimizers: names, construction, requirements, identity, and a probe of the first steps."""
