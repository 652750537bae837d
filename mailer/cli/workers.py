"""Whether a worker is there for what is to be sent."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from .. import Lane, Mailer
from ..ledger.workers import nobody_serves, said, served


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
