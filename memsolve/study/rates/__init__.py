"""`rates`: items recovered after each of the first steps, with the best trial at each."""
