"""Which SES call carries which messages, and that SES and botocore would take every one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from botocore import loaders
from botocore.model import OperationModel, ServiceModel
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer import compose
from mailer.compose import Call, Item, Operation
from mailer.compose.limits import MAX_DATA_CHARS, MAX_ENTRIES
from mailer.compose.limits import MAX_INLINE_REQUEST as MAX_REQUEST_BYTES
from mailer.ledger.spec import Spec
from mailer.message.email import Lane, Mode
from mailer.templates import Pieces
from mailer.templates.handlebars import compile_template


@cache
def service() -> ServiceModel:
    return ServiceModel(loaders.Loader().load_service_model("sesv2", "service-2"))


def model(call: Call) -> OperationModel:
    return service().operation_model(call.operation.value)


def body_bytes(call: Call) -> int:
    """Bytes of the request body, after making sure that it says what botocore would have said."""
    by_botocore = create_serializer("rest-json").serialize_to_request(call.params, model(call))["body"]
    assert json.loads(call.body) == json.loads(by_botocore)
    return len(call.body)


def validate(call: Call) -> None:
    report = ParamValidator().validate(call.params, model(call).input_shape)
    assert not report.has_errors(), report.generate_report()


def plan(spec: Spec, items: Sequence[Item]) -> list[Call]:
    """The calls, where no message is refused."""
    planned = compose.plan(spec, items)
    assert planned.refused == []
    return planned.calls


def spec(**fields: Any) -> Spec:
    return Spec(**{"lane": Lane.BULK, "from_address": "news@example.com", **fields})


def item(i: int, *, html: list[str] | None = None, text: list[str] | None = None, subject: str = "Hi", **fields: Any) -> Item:
    content = Pieces(subject, html, text if html or text else ["x"])
    return Item(position=i, attempt=1, tag=f"c0-0-{i}-1", to=(f"u{i}@example.com",), content=content, **fields)


def received(call: Call) -> list[tuple[str, str | None, str | None]]:
    """Subject, HTML and text of each message of a call, as SES puts them together."""
    if call.operation is Operation.SEND_EMAIL:
        simple = call.params["Content"]["Simple"]
        parts = [simple["Body"].get(kind, {}).get("Data") for kind in ("Html", "Text")]
        return [(simple["Subject"]["Data"], parts[0], parts[1])]
    content = call.params["DefaultContent"]["Template"]["TemplateContent"]
    compiled = {name: compile_template(source, inline=True) for name, source in content.items()}
    found = []
    for entry in call.params["BulkEmailEntries"]:
        data = json.loads(entry["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"])
        parts = [compiled[name].render(data) if name in compiled else None for name in ("Subject", "Html", "Text")]
        found.append((str(parts[0]), parts[1], parts[2]))
    return found


def check(calls: Sequence[Call], items: Sequence[Item]) -> None:
    """What holds for every plan."""
    assert [item for call in calls for item in call.items] == list(items), "each message in one call, in order"
    for call in calls:
        validate(call)
        size = body_bytes(call)
        assert call.recipients == sum(item.recipients for item in call.items)
        assert len(call.items) == len(received(call))
        for one, (subject, html, text) in zip(call.items, received(call), strict=True):
            assert isinstance(one.content, Pieces)
            rendered = one.content.join()
            assert (subject, html) == (rendered.subject, rendered.html)
            if one.content.text is not None:
                assert text == rendered.text
        if call.operation is Operation.SEND_EMAIL:
            assert (call.mode, len(call.items)) == (Mode.SIMPLE, 1)
            continue
        assert call.mode is Mode.BULK
        assert 2 <= len(call.items) <= MAX_ENTRIES
        assert size <= MAX_REQUEST_BYTES
        for entry in call.params["BulkEmailEntries"]:
            data = entry["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"]
            assert len(data) <= MAX_DATA_CHARS


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (2, [2]), (49, [49]), (50, [50]), (51, [50, 1]), (52, [50, 2]), (120, [50, 50, 20])]
)
def test_every_message_is_in_one_call_of_at_most_fifty(count: int, sizes: list[int]) -> None:
    items = [item(i, text=["Hi ", str(i)]) for i in range(count)]
    calls = plan(spec(), items)
    check(calls, items)
    assert [len(call.items) for call in calls] == sizes
    assert [call.operation for call in calls] == [
        Operation.SEND_BULK_EMAIL if size > 1 else Operation.SEND_EMAIL for size in sizes
    ]


def test_a_template_is_said_once_and_a_value_once_for_each() -> None:
    items = [item(i, html=["<p>Dear ", f"Name{i}", "</p>" + "x" * 1000], subject=f"Hi Name{i}") for i in range(50)]
    (call,) = plan(spec(), items)
    check([call], items)
    assert body_bytes(call) < 15_000  # fifty times the page would be 50,000


# What one character costs differs: 1 byte, 2 (é), 4 (😀, and `"` in JSON in JSON), 7 (a control character there).
COSTS = ["x", '"', "\\", "é", "\x00", "\x7f", "\u2028", "😀"]


@pytest.mark.parametrize("char", COSTS)
@pytest.mark.parametrize("length", [1_000, 8_000, 40_000, 120_000])
def test_a_call_stays_under_one_megabyte_whatever_the_characters(char: str, length: int) -> None:
    for items in (
        [item(i, text=[char * length + str(i)]) for i in range(7)],  # values
        [item(i, html=[char * length, str(i)], text=["x"]) for i in range(7)],  # the shared template
    ):
        calls = plan(spec(), items)
        check(calls, items)
        one = body_bytes(plan(spec(), items[:2])[0])
        if one < MAX_REQUEST_BYTES / 8:
            assert len(calls) == 1, "no smaller calls than there have to be"


def test_the_limit_is_kept_to_the_byte() -> None:
    def size(length: int) -> int:
        (call,) = plan(spec(), [item(i, html=["é" * 100 + "x" * length, str(i)], text=["y"]) for i in range(2)])
        return body_bytes(call)

    room = MAX_REQUEST_BYTES - size(0)
    assert size(room) == MAX_REQUEST_BYTES
    items = [item(i, html=["é" * 100 + "x" * (room + 1), str(i)], text=["y"]) for i in range(2)]
    assert [call.operation for call in plan(spec(), items)] == [Operation.SEND_EMAIL] * 2


def test_data_of_one_message_is_kept_to_the_character() -> None:
    room = MAX_DATA_CHARS - len('{"v0":""}')
    for extra, operation in ((0, Operation.SEND_BULK_EMAIL), (1, Operation.SEND_EMAIL)):
        items = [item(0, text=["x" * (room + extra)]), item(1, text=["y"])]
        calls = plan(spec(), items)
        check(calls, items)
        assert {call.operation for call in calls} == {operation}


def test_many_recipients_tags_and_headers_count_too() -> None:
    """Little text, but 50 entries with 50 addresses and 40 tags each."""
    crowd = tuple(f"{i:02}{'c' * 62}@{'d' * 60}.{'e' * 60}.example.com" for i in range(49))
    tags = {f"{i:02}{'t' * 250}": "v" * 256 for i in range(40)}
    headers = {f"X-{i:02}{'h' * 120}": '"' * 870 for i in range(15)}
    items = [item(i, text=["Hi ", str(i)], cc=crowd, tags=tags) for i in range(50)]
    calls = plan(spec(headers=headers), items)
    check(calls, items)
    assert len(calls) > 1
    assert all(call.operation is Operation.SEND_BULK_EMAIL for call in calls)
    shared = spec(tags=tags, headers=headers)
    check(plan(shared, [item(i) for i in range(50)]), [item(i) for i in range(50)])


def test_one_huge_message_goes_alone_and_takes_no_other_with_it() -> None:
    items = [item(i, text=["x" * (2_000_000 if i == 20 else 10), str(i)]) for i in range(50)]
    calls = plan(spec(), items)
    check(calls, items)
    alone = [call for call in calls if call.operation is Operation.SEND_EMAIL]
    assert 20 in [call.items[0].position for call in alone]
    assert len(calls) <= 8


def test_rows_of_different_shapes_share_a_call() -> None:
    items = [item(i, html=["<p>", "a", "</p>"][: 1 + i % 3]) for i in range(10)]
    (call,) = plan(spec(), items)
    check([call], items)


@pytest.mark.parametrize("count", [1, 3])
def test_everything_that_the_spec_has_is_on_the_call(count: int) -> None:
    full = spec(
        from_address="News <news@example.com>",
        reply_to=("a@example.com", "b@example.com"),
        feedback_address="bounces@example.com",
        identity_arn="arn:aws:ses:eu-west-1:123456789012:identity/example.com",
        feedback_identity_arn="arn:aws:ses:eu-west-1:123456789012:identity/bounces@example.com",
        configuration_set="marketing",
        tenant="tenant-1",
        tags={"campaign": "june", "kind": "news"},
        headers={"List-Unsubscribe": "<https://example.com/u>", "X-One": "1"},
    )
    items = [item(i, cc=("c@example.com",), bcc=("d@example.com", "e@example.com"), tags={"kind": "row"}) for i in range(count)]
    (call,) = plan(full, items)
    check([call], items)
    assert call.recipients == 4 * count
    common = {name: value for name, value in call.params.items() if isinstance(value, str) or name == "ReplyToAddresses"}
    assert common == {
        "FromEmailAddress": "News <news@example.com>",
        "FromEmailAddressIdentityArn": full.identity_arn,
        "ReplyToAddresses": ["a@example.com", "b@example.com"],
        "FeedbackForwardingEmailAddress": "bounces@example.com",
        "FeedbackForwardingEmailAddressIdentityArn": full.feedback_identity_arn,
        "ConfigurationSetName": "marketing",
        "TenantName": "tenant-1",
    }
    headers = [{"Name": "List-Unsubscribe", "Value": "<https://example.com/u>"}, {"Name": "X-One", "Value": "1"}]
    if count == 1:
        entries = [(call.params["Destination"], call.params["EmailTags"])]
        assert call.params["Content"]["Simple"]["Headers"] == headers
    else:
        entries = [(entry["Destination"], entry["ReplacementTags"]) for entry in call.params["BulkEmailEntries"]]
        assert call.params["DefaultContent"]["Template"]["Headers"] == headers
        assert "DefaultEmailTags" not in call.params  # whether SES merges the two is not known
    for one, (destination, tags) in zip(items, entries, strict=True):
        assert destination == {
            "ToAddresses": list(one.to),
            "CcAddresses": ["c@example.com"],
            "BccAddresses": ["d@example.com", "e@example.com"],
        }
        assert {tag["Name"]: tag["Value"] for tag in tags} == {"mailer_id": one.tag, "campaign": "june", "kind": "row"}
        assert len(tags) == 3


@pytest.mark.parametrize("count", [1, 2])
def test_what_the_spec_does_not_have_is_not_on_the_call(count: int) -> None:
    (call,) = plan(spec(), [item(i) for i in range(count)])
    bulk = {"FromEmailAddress", "DefaultContent", "BulkEmailEntries"}
    assert set(call.params) == ({"FromEmailAddress", "Destination", "Content", "EmailTags"} if count == 1 else bulk)
    assert "Headers" not in json.dumps(call.params)


name = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
address = st.builds(
    "{}@{}.example".format, st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.from_regex(r"[a-z]{1,9}", fullmatch=True)
)
addresses = st.lists(address, max_size=3).map(tuple)
tags = st.dictionaries(name, name, max_size=3)
specs = st.builds(
    Spec,
    lane=st.sampled_from(Lane),
    from_address=address,
    reply_to=addresses,
    feedback_address=st.none() | address,
    identity_arn=st.none() | st.just("arn:aws:ses:eu-west-1:123456789012:identity/example.com"),
    feedback_identity_arn=st.none() | st.just("arn:aws:ses:eu-west-1:123456789012:identity/example.com"),
    configuration_set=st.none() | name,
    tenant=st.none() | name,
    tags=tags,
    headers=st.dictionaries(
        st.from_regex("X-[A-Za-z]{1,9}", fullmatch=True), st.from_regex("[ -~]{1,40}", fullmatch=True), max_size=3
    ),
)


@st.composite
def batches(draw: st.DrawFn) -> list[Item]:
    html, plain = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    width = draw(st.integers(1, 4))
    shared = draw(st.lists(text, min_size=width, max_size=width))
    items = []
    for i in range(draw(st.integers(0, 6))):
        row = [draw(st.sampled_from([piece, draw(text)])) for piece in shared]
        content = Pieces(draw(text), row if html else None, row[::-1] if plain else None)
        items.append(
            Item(
                position=i, attempt=1, tag=f"c0-0-{i}-1", to=(draw(address),), cc=draw(addresses), bcc=draw(addresses),
                tags=draw(tags), content=content,
            )
        )  # fmt: skip
    return items


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(specs, batches())
def test_every_plan_is_whole_and_botocore_takes_it(spec: Spec, items: list[Item]) -> None:
    calls = plan(spec, items)
    check(calls, items)
    assert plan(Spec.load(spec.dump()), items) == calls, "also from what Redis gives back"
    for call in calls:
        if call.operation is Operation.SEND_EMAIL:
            found = [call.params["EmailTags"]]
        else:
            found = [entry["ReplacementTags"] for entry in call.params["BulkEmailEntries"]]
        for one, listed in zip(call.items, found, strict=True):
            assert {tag["Name"]: tag["Value"] for tag in listed} == {"mailer_id": one.tag, **spec.tags, **one.tags}


def test_the_body_is_what_botocore_would_have_written() -> None:
    (call,) = plan(spec(), [item(i, text=["é 😀 \x7f", str(i)]) for i in range(2)])
    assert body_bytes(call) == len(call.body)
    assert json.loads(call.body) == call.params
