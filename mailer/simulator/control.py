"""What tests and developers steer a running simulator with: JSON under /_simulator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from . import mime
from .catalogue import get_account
from .faults import Fault
from .operations import Simulator
from .wire import Json

MAX_PAGE = 1000  # messages


class AccountChange(BaseModel):
    """What is given changes, the rest stays."""

    model_config = ConfigDict(extra="forbid")

    max_send_rate: float | None = Field(None, ge=0)  # recipients per second
    max_24h: float | None = Field(None, ge=-1)  # recipients; -1 = unlimited
    sent_24h: int | None = Field(None, ge=0)  # recipients: as if that many had been sent just now
    bulk_calls_per_s: float | Literal["unlimited"] | None = None
    production: bool | None = None
    sending_enabled: bool | None = None
    suspended: bool | None = None
    enforcement: Literal["HEALTHY", "PROBATION", "SHUTDOWN"] | None = None
    daily_code: Literal["LimitExceededException", "ThrottlingException"] | None = None


def change_account(simulator: Simulator, change: AccountChange) -> None:
    for name in ("production", "sending_enabled", "suspended", "enforcement", "daily_code"):
        value = getattr(change, name)
        if value is not None:
            setattr(simulator, name, value)
    if change.max_send_rate is not None:
        simulator.rate.change(change.max_send_rate)
    if change.max_24h is not None:
        simulator.quota.limit = change.max_24h
    if change.sent_24h is not None:
        simulator.quota.preset(change.sent_24h)
    if change.bulk_calls_per_s is not None:
        calls = change.bulk_calls_per_s
        simulator.bulk_calls.change(float("inf") if calls == "unlimited" else calls)


def stats(simulator: Simulator) -> Json:
    counts = simulator.counts
    return {
        "accepted": counts["accepted"],
        "recipients": counts["recipients"],
        "suppressed": counts["suppressed"],
        "rendering_failures": counts["rendering_failures"],
        "throttled": counts["throttled"],
        "throttled_calls": counts["throttled_calls"],
        "over_quota": counts["over_quota"],
        "kept": len(simulator.mailroom),
        "events": simulator.queues.events.counts() if simulator.config.events else None,
        "calls": {name: count for name, count in sorted(counts.items()) if name[0].isupper()},
        "faults": [{"rule": rule, "fired": simulator.faults.fired[index]} for index, rule in enumerate(simulator.faults.rules)],
        "account": {"region": simulator.config.region, "account": simulator.config.account, **get_account(simulator)},
    }


def router(simulator: Simulator) -> APIRouter:
    routes = APIRouter(prefix="/_simulator", default_response_class=JSONResponse)

    @routes.get("/stats")
    async def get_stats() -> Any:
        return stats(simulator)

    @routes.get("/messages")
    async def messages(
        offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50, to: str = ""
    ) -> Response:
        total, page = simulator.mailroom.page(offset, limit, to)
        body = {"total": total, "offset": offset, "messages": [message.json() for message in page]}
        return Response(orjson.dumps(body), media_type="application/json")

    @routes.get("/messages/{message_id}")
    async def message(message_id: str) -> Response:
        found = simulator.mailroom.get(message_id)
        if found is None:
            return JSONResponse({"detail": "There is no such message among the newest ones."}, 404)
        return Response(orjson.dumps(found.json()), media_type="application/json")

    @routes.get("/messages/{message_id}/mime")
    async def whole(message_id: str) -> Response:
        found = simulator.mailroom.get(message_id)
        content = None if found is None else mime.assemble(found, simulator.config.region)
        if content is None:
            why = "There is no such message among the newest ones." if found is None else "It could not be rendered."
            return JSONResponse({"detail": why}, 404)
        headers = {"content-disposition": f'attachment; filename="{message_id}.eml"', "x-content-type-options": "nosniff"}
        return Response(content, headers=headers, media_type="message/rfc822")

    @routes.get("/log")
    async def log() -> Response:
        return StreamingResponse(simulator.log.lines(), media_type="application/x-ndjson")

    @routes.post("/account")
    async def account(change: AccountChange) -> Any:
        change_account(simulator, change)
        return stats(simulator)["account"]

    @routes.post("/faults")
    async def faults(rules: list[Fault]) -> Any:
        simulator.faults.set(rules)
        return stats(simulator)["faults"]

    @routes.post("/reset")
    async def reset() -> Any:
        simulator.reset()
        return stats(simulator)

    return routes
