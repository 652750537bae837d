"""The rules of arq 0.28 that the lanes depend on. Each is here because arq's source does something else by default."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest
from arq.worker import Worker, func

from mailer.message.email import Lane
from mailer.queue import dump_job, load_job
from mailer.ses.gateway import CONNECT_TIMEOUT_S
from mailer.ses.wire import READ_TIMEOUT_S
from worker import lanes
from worker.deliver import SLICE_S
from worker.runtime import LEASE_MS, PATIENCE_MS

EVERY_LANE = pytest.mark.parametrize("lane", list(Lane))


@EVERY_LANE
def test_every_option_is_one_that_arq_has(lane: Lane) -> None:
    assert set(lanes.arq_options(lane, {})) <= set(inspect.signature(Worker).parameters)


@EVERY_LANE
def test_jobs_are_json_and_never_pickle(lane: Lane) -> None:
    options = lanes.arq_options(lane, {})
    assert (options["job_serializer"], options["job_deserializer"]) == (dump_job, load_job)
    with pytest.raises(ValueError):  # whatever it says: it is not unpickled
        load_job(pickle.dumps({"f": "deliver"}))
    assert load_job(dump_job({"f": "deliver", "a": ("c1-0",)})) == {"f": "deliver", "a": ["c1-0"]}


@EVERY_LANE
def test_running_jobs_never_hide_those_that_wait(lane: Lane) -> None:
    options = lanes.arq_options(lane, {})
    assert options["queue_read_limit"] >= 10 * options["max_jobs"]  # ten processes of a lane at their fullest


@EVERY_LANE
def test_nothing_of_a_job_is_kept_or_logged(lane: Lane) -> None:
    options = lanes.arq_options(lane, {})
    assert (options["keep_result"], options["log_results"]) == (0, False)
    assert [f.keep_result_s for f in options["functions"]] == [0]


@EVERY_LANE
def test_a_lane_has_one_time_out_and_a_deploy_uses_up_no_tries(lane: Lane) -> None:
    options = lanes.arq_options(lane, {})
    assert {f.timeout_s for f in options["functions"]} == {options["job_timeout"]} == {lanes.JOB_TIMEOUT_S}
    assert {f.max_tries for f in options["functions"]} == {options["max_tries"]}
    assert options["max_tries"] >= 100_000


@EVERY_LANE
def test_a_tick_is_short(lane: Lane) -> None:
    assert lanes.arq_options(lane, {})["poll_delay"] <= 0.05


def test_a_job_has_time_for_its_slice_its_last_call_and_its_wait_for_the_quota() -> None:
    assert 2 * SLICE_S + CONNECT_TIMEOUT_S + READ_TIMEOUT_S < lanes.JOB_TIMEOUT_S
    assert lanes.JOB_TIMEOUT_S <= 60


def test_a_lease_outlives_its_heartbeat_twice_and_the_patience_of_the_reaper_is_longer() -> None:
    assert LEASE_MS / 1000 >= 10
    assert PATIENCE_MS >= LEASE_MS


async def test_a_job_that_raises_is_no_failure_to_arq(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(lanes, "deliver", broken)
    context: dict[str, Any] = {"runtime": None, "jobs": set()}
    assert await lanes.run_job(context, "c1-0") is None  # type: ignore[func-returns-value]
    assert context["jobs"] == set()
    assert func(lanes.run_job, name="x").name == "x"
