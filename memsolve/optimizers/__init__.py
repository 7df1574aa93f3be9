"""Optimizers that take part: by name, construction, requirements, identity, first step."""
