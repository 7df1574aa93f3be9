"""Two commits on one machine, interleaved: slower, forgetful, or spilling is told apart."""
