"""Studies of one step from `W = 0`: capacity, saturation, precision."""
