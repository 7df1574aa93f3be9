"""Records: entries of the leaderboard as files that others can check, and the site made of them."""
