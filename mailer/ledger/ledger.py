"""The ledger's door. What is asked of it comes in four parts, by who asks: who hands over, who works, who decides, who looks."""

from __future__ import annotations

from ..redis.client import RedisClient
from ..redis.scripts import Scripts
from .archive import Archive
from .contents import Contents
from .control import Control
from .inbox import Inbox
from .intake import Intake
from .keys import Keys
from .lifecycle import Lifecycle
from .report import Report
from .sent_ids import Noting, SentIds
from .store import Objects, ObjectStore, RedisStore, Store
from .work import Work


class Ledger:
    """`objects`: the place outside Redis where payloads and archives live; without one, all of it is in Redis."""

    def __init__(self, redis: RedisClient, namespace: str, clock: str | None = None, objects: Objects | None = None) -> None:
        self.redis = redis
        self.keys = keys = Keys(namespace)
        self.scripts = scripts = Scripts(redis, "mailer.ledger", clock)
        inside = RedisStore(redis, keys)
        self.store: Store = ObjectStore(objects, inside) if objects else inside
        self.archive = Archive(redis, keys, scripts, self.store, objects) if objects else None
        self.noting = Noting(keys.sent_ids)
        self.sent_ids = SentIds(redis, keys, scripts, self.noting)
        self.contents = Contents(redis, keys)
        self.intake = Intake(redis, keys, scripts, self.store, archives=objects is not None)
        self.lifecycle = Lifecycle(redis, keys, scripts, self.contents)
        store_name = objects.url if objects else "redis:"
        self.work = Work(redis, keys, scripts, self.lifecycle, self.noting, self.store, store_name, self.archive)
        self.control = Control(redis, keys, scripts, self.intake, self.work, self.lifecycle)
        self.report = Report(redis, keys, self.work)
        self.inbox = Inbox(keys, scripts)

    async def now_ms(self) -> int:
        """Redis's clock, by which all scripts go. O(1)."""
        return await self.scripts.now_ms()
