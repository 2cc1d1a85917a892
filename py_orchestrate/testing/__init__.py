"""For your own tests: saved histories against today's code, a clock that you turn, the suite for database managers."""

from .replays import check_replay

__all__ = ["check_replay"]
