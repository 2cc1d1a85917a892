"""When a run goes on whose orchestrator has died with it, again and again."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

_AT_ONCE = 2
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 300.0


def recovery_time(crashes: int, now: datetime) -> datetime | None:
    """Return when the run goes on; ``None`` for at once.

    A crash may happen to any run. One that comes back again and again may be the cause: the others that died with it
    are to have gone on, and ended, before it does. That is why the delays grow, and differ from run to run.
    """
    if crashes <= _AT_ONCE:
        return None
    seconds = min(_FIRST_DELAY_SECONDS * 2.0 ** (crashes - _AT_ONCE - 1), _LONGEST_DELAY_SECONDS)
    return now + timedelta(seconds=seconds * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
