"""For your own tests: a clock that you turn, and the suite that every database manager must pass."""
