"""The simulator answers SDKs of every age: the pinned botocore, and those that are newer than it.

`ses_operations.txt` has name, method and path of every operation of the newest API model that was looked at. To hold the
simulator against a newer one, and all of the simulator's tests with it: `pip install --target FOLDER botocore`, then
NEWEST_BOTOCORE=FOLDER.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.model import ServiceModel

from mailer.simulator import Simulator, SimulatorConfig, serve
from mailer.simulator.operations import OPERATIONS, Operation, route
from mailer.simulator.refusals import Refusal

from .checked_ses import NEWEST, Checked, Json, bulk, entry, load_model, refused, simple, simulator, with_header

PINNED = load_model(None)
TABLE = Path(__file__).with_name("ses_operations.txt").read_text().splitlines()
needs_newest = pytest.mark.skipif(not NEWEST, reason="NEWEST_BOTOCORE names no folder with a botocore")


@pytest.fixture
def ses() -> Checked:
    return simulator()


def routes(model: ServiceModel) -> dict[str, tuple[str, str]]:
    https = {name: model.operation_model(name).http for name in model.operation_names}
    return {name: (http["method"], http["requestUri"]) for name, http in https.items()}


# ---- paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_has_the_newest_path_and_the_pinned_one(operation: Operation) -> None:
    newest = {name: (method, path) for name, method, path in map(str.split, TABLE)}[operation.name]
    assert (operation.method, operation.path) == newest
    assert set(operation.routes) == {newest, routes(PINNED)[operation.name]}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_path_of_an_operation_leads_to_it(operation: Operation) -> None:
    for method, path in operation.routes:
        raw = "/".join("a%2Fb" if part.startswith("{") else part for part in path.split("/"))
        assert route(method, raw) == (operation, "a/b" if "{" in path else "")


@needs_newest
def test_the_table_is_the_newest_models() -> None:
    newest = sorted(f"{name} {method} {path}" for name, (method, path) in routes(load_model(NEWEST)).items())
    assert newest == TABLE, "a newer model: write these lines into ses_operations.txt, and look at what else is new"


_CALLS = """
import sys
from botocore.session import Session
ses = Session().create_client("sesv2", region_name="eu-west-1", endpoint_url=sys.argv[1],
                              aws_access_key_id="id", aws_secret_access_key="key")
ses.create_configuration_set(ConfigurationSetName="c")
assert [one["IdentityName"] for one in ses.list_email_identities(PageSize=5)["EmailIdentities"]] == ["example.com"]
assert ses.list_configuration_sets(PageSize=5)["ConfigurationSets"] == ["c"]
ses.put_suppressed_destination(EmailAddress="a@x.org", Reason="BOUNCE", TenantName="acme")
assert ses.get_suppressed_destination(EmailAddress="a@x.org", TenantName="acme")["SuppressedDestination"]["TenantName"] == "acme"
assert ses.list_suppressed_destinations()["SuppressedDestinationSummaries"] == []
assert len(ses.list_suppressed_destinations(TenantName="acme")["SuppressedDestinationSummaries"]) == 1
ses.delete_suppressed_destination(EmailAddress="a@x.org", TenantName="acme")
content = {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "Hello"}}, "Headers": [{"Name": "X", "Value": "v" * 995}]}
print(ses.send_email(FromEmailAddress="news@example.com", Destination={"ToAddresses": ["a@x.org"]}, Content={"Simple": content},
                     ConfigurationOverrides={"Tracking": {"OpenTrackingEnabled": "DISABLED"}})["MessageId"])
"""


@needs_newest
async def test_the_newest_client_is_served() -> None:
    simulated = Simulator(SimulatorConfig(tenants=("acme",)))
    async with serve(simulated) as url:
        environment = {**os.environ, "PYTHONPATH": NEWEST or "", "NO_PROXY": "*"}
        command = [sys.executable, "-c", _CALLS, url]
        done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert simulated.mailroom.get(done.stdout.strip()) is not None


# ---- lists ---------------------------------------------------------------------------------------------------------


def test_lists_are_asked_for_in_the_query_and_in_the_body() -> None:
    ses = simulator(verified=("a.org", "b.org", "c.org"))
    for asked in ({"query": "PageSize=2"}, {"body": {"PageSize": 2}}):
        page = ses.do("ListEmailIdentities", **asked)
        assert [one["IdentityName"] for one in page["EmailIdentities"]] == ["a.org", "b.org"]
        token = page["NextToken"]
        more: Json = {"query": f"NextToken={token}"} if "query" in asked else {"body": {"NextToken": token}}
        rest = ses.do("ListEmailIdentities", **more)
        assert [one["IdentityName"] for one in rest["EmailIdentities"]] == ["c.org"]
        assert "NextToken" not in rest


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"IDENTITY_NAME_CONTAINS": "Example"}, ["bo@example.com", "example.com"]),
        ({"IDENTITY_TYPE": "EMAIL_ADDRESS"}, ["bo@example.com"]),
        ({"IDENTITY_TYPE": "DOMAIN", "VERIFICATION_STATUS": "SUCCESS"}, ["example.com", "other.org"]),
        ({"VERIFICATION_STATUS": "PENDING"}, []),
    ],
)
def test_identities_are_filtered(filter: Json, found: list[str]) -> None:
    ses = simulator(verified=("example.com", "bo@example.com", "other.org"))
    listed = ses.do("ListEmailIdentities", {"Filter": filter})["EmailIdentities"]
    assert [one["IdentityName"] for one in listed] == found


def test_configuration_sets_are_filtered() -> None:
    ses = simulator(configuration_sets=("news", "news-eu", "orders"))
    body = {"Filter": {"CONFIGURATION_SET_NAME_CONTAINS": "news"}}
    assert ses.do("ListConfigurationSets", body)["ConfigurationSets"] == ["news", "news-eu"]
    assert refused(lambda: ses.do("ListConfigurationSets", {"Filter": {"IDENTITY_TYPE": "DOMAIN"}}))[0] == "BadRequestException"


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("ListEmailIdentities", 0, 1000),
        ("ListConfigurationSets", 1, 1000),
        ("ListEmailTemplates", 1, 100),
        ("ListSuppressedDestinations", 1, 1000),
    ],
)
def test_a_page_size_outside_a_lists_limits_is_refused(ses: Checked, name: str, least: int, most: int) -> None:
    for size in (least, most):
        ses.do(name, query=f"PageSize={size}")
    for size, rule in ((least - 1, f"greater than or equal to {least}"), (most + 1, f"less than or equal to {most}")):
        code, text = refused(lambda size=size: ses.do(name, query=f"PageSize={size}"))  # type: ignore[misc]
        assert (code, text) == (
            "BadRequestException",
            f"1 validation error detected: Value at 'pageSize' failed to satisfy constraint: Member must have value {rule}",
        )
    for text in ("x", "1.5", "", "9" * 40):
        assert refused(lambda text=text: ses.do(name, query=f"PageSize={text}"))[0] == "SerializationException"  # type: ignore[misc]


@pytest.mark.parametrize("size", ["5", True, 1.5, [5]])
def test_a_page_size_in_the_body_is_a_number(ses: Checked, size: object) -> None:
    assert refused(lambda: ses.do("ListConfigurationSets", {"PageSize": size}))[0] == "SerializationException"


# ---- what newer models have ----------------------------------------------------------------------------------------


def test_a_header_has_995_characters_and_996_with_its_name(ses: Checked) -> None:
    ses.do("SendEmail", with_header("X", "v" * 995))
    ses.do("SendEmail", with_header("X" * 126, "v" * 870))
    assert "between 1 and 995" in refused(lambda: ses.do("SendEmail", with_header("X", "v" * 996)))[1]
    assert "996 characters" in refused(lambda: ses.do("SendEmail", with_header("X-Two", "v" * 992)))[1]


def test_a_tenant_has_a_suppression_list_of_its_own() -> None:
    ses = simulator(tenants=("acme", "other"))
    acme = "TenantName=acme"
    ses.do("PutSuppressedDestination", {"EmailAddress": "a@x.org", "Reason": "BOUNCE", "TenantName": "acme"})
    assert ses.do("GetSuppressedDestination", label="a@x.org", query=acme)["SuppressedDestination"]["TenantName"] == "acme"
    assert len(ses.do("ListSuppressedDestinations", query=acme)["SuppressedDestinationSummaries"]) == 1
    for elsewhere in ("", "TenantName=other"):
        assert ses.do("ListSuppressedDestinations", query=elsewhere)["SuppressedDestinationSummaries"] == []
        found = refused(lambda where=elsewhere: ses.do("GetSuppressedDestination", label="a@x.org", query=where))  # type: ignore[misc]
        assert found == ("NotFoundException", "Email address a@x.org does not exist on your suppression list.")
    ses.do("SendEmail", simple(Destination={"ToAddresses": ["a@x.org"]}, TenantName="acme"))
    assert next(iter(ses.log)).suppressed == ()  # the tenant uses the account's list until its scope is TENANT
    ses.do("DeleteSuppressedDestination", label="a@x.org", query=acme)
    assert ses.do("ListSuppressedDestinations", query=acme)["SuppressedDestinationSummaries"] == []


def test_a_suppression_list_of_a_tenant_that_is_not_there_is_not_found(ses: Checked) -> None:
    body, query = {"EmailAddress": "a@x.org", "Reason": "BOUNCE", "TenantName": "acme"}, "TenantName=acme"
    for call in (
        lambda: ses.do("PutSuppressedDestination", body),
        lambda: ses.do("GetSuppressedDestination", label="a@x.org", query=query),
        lambda: ses.do("DeleteSuppressedDestination", label="a@x.org", query=query),
        lambda: ses.do("ListSuppressedDestinations", query=query),
    ):
        assert refused(call) == ("NotFoundException", "Tenant acme does not exist.")
    assert not ses.suppressed


@pytest.mark.parametrize("kind", ["SendEmail", "SendBulkEmail"])
def test_overrides_of_the_configuration_are_taken_and_shown(ses: Checked, kind: str) -> None:
    make = simple if kind == "SendEmail" else lambda **more: bulk(entry(), **more)
    both: Json = {"Tracking": {"OpenTrackingEnabled": "DISABLED", "ClickTrackingEnabled": "ENABLED"}}
    cases: list[Json] = [{}, {"Tracking": {}}, both]
    for overrides in cases:
        ses.do(kind, make(ConfigurationOverrides=overrides))
        assert next(iter(ses.mailroom)).json()["configuration_overrides"] == overrides
    wrong = {"Tracking": {"OpenTrackingEnabled": "OFF"}}
    code, text = refused(lambda: ses.do(kind, make(ConfigurationOverrides=wrong)))
    assert code == "BadRequestException"
    assert "'configurationOverrides.tracking.openTrackingEnabled' failed to satisfy constraint" in text
    assert "[ENABLED, DISABLED]" in text
    shapes: list[object] = ["x", {"Tracking": []}, {"Tracking": {"ClickTrackingEnabled": True}}]
    for broken in shapes:
        assert refused(lambda one=broken: ses.do(kind, make(ConfigurationOverrides=one)))[0] == "SerializationException"  # type: ignore[misc]


def test_an_operation_that_is_not_simulated_is_named() -> None:
    with pytest.raises(Refusal, match="no operation at POST /v2/email/update-configuration-sets"):
        route("POST", "/v2/email/update-configuration-sets")
