"""What a worker leaves in Redis is what docs/redis.md says: each key, each field, and what ends by itself."""

from __future__ import annotations

import re

from mailer import Campaign, Email, Mailer
from mailer.ledger import Ledger
from mailer.simulator import Simulator
from worker.runtime import Runtime

from ..redis_page import FIELDS, KEYS, pattern, rows
from .test_delivery import FROM

ARQ = {row[0].strip("`"): row[1] for row in rows("| name | type |")}
BUCKET = re.compile(r"mailer:suppressed:.+:[0-9a-f]{4}")
BESIDE = {"mailer:account:<account>:refreshing": "string"}


async def test_every_key_and_field_that_a_worker_leaves_is_in_the_page(
    mailer: Mailer, ledger: Ledger, ses: Simulator, runtime: Runtime, namespace: str
) -> None:
    campaign = Campaign(name="June", from_=FROM, template="letter", max_rate=1000)
    people = [{"email": f"u{n}@example.org", "name": "Ana"} for n in range(30)]
    people += [{"email": "nobody"}, {"email": "noname@example.org"}, {"email": "u1@example.org", "name": "Bo"}]
    await mailer.suppress("u2@example.org", reason="manual")
    id = await mailer.start_campaign(campaign, people, idempotency_key="june")
    message = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="s", text="t"), idempotency_key="hello")
    await mailer.wait(id)
    await mailer.wait(message)
    known = {name: (pattern(row[1].strip("`")), row[2]) for name, row in KEYS.items()}
    beside = [(pattern(name), kind) for name, kind in {**ARQ, **BESIDE}.items()]
    seen = set[str]()
    async for key in ledger.redis.scan_iter(f"{namespace}:*", count=1000):
        name = "mailer" + key.decode().removeprefix(namespace)
        there = (await ledger.redis.type(key)).decode().replace("zset", "sorted set")
        if there == "none" or BUCKET.fullmatch(name) or name.startswith("mailer:ids:"):
            continue  # it has just ended; or the page tells of it in words
        found = [one for one, (shape, type) in known.items() if shape.fullmatch(name) and type in (there, "any")]
        assert found or any(shape.fullmatch(name) and type == there for shape, type in beside), name
        seen |= set(found)
        if there == "hash":
            shapes = [pattern(field) for one in found for field in FIELDS[one]]
            fields = [field.decode() for field in await ledger.redis.hkeys(key)]
            assert [field for field in fields if not any(shape.fullmatch(field) for shape in shapes)] == [], name
    assert {"container", "chunk", "records", "message_ids", "account", "limiter", "outcomes", "suppressed_own", "worker"} <= seen
    assert await ledger.redis.ttl(ledger.keys.container(message)) > 0
