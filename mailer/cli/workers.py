"""Whether a worker is there for what is to be sent."""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from rich.text import Text

from .. import Lane, Mailer, State
from ..ledger import CampaignStatus
from ..ledger.workers import nobody_serves, said, served

SENDING = (State.RUNNING, State.PARKED)
EVERY = 8  # looks at a campaign that is watched


class Serving(NamedTuple):
    workers: int  # that serve the lane
    where: str

    @classmethod
    async def of(cls, mailer: Mailer, lane: Lane) -> Serving:
        alive = await mailer.workers()
        n = served(alive)[lane]
        if not n:
            return cls(0, nobody_serves([lane]))
        return cls(
            n, f"{n:,} serve{'s' if n == 1 else ''} the {lane.value} lane: {said([w for w in alive if lane in w.serving])}"
        )

    @property
    def text(self) -> Text:
        return Text(self.where, style="" if self.workers else "red")


class Watched:
    """Looks from time to time whether a worker is there."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer, self._looks = mailer, count()
        self._alone = ""

    async def alone(self, status: CampaignStatus) -> str:
        """The sentence where nobody sends a campaign that goes on. Not at once: a worker that starts takes a moment to say so."""
        if status.state not in SENDING:
            self._alone = ""
        elif (look := next(self._looks)) and look % EVERY == 0:
            serving = await Serving.of(self._mailer, status.lane)
            self._alone = "" if serving.workers else serving.where
        return self._alone
