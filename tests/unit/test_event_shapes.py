"""SES's events: the same in every form that they come in, and nothing that comes in can do harm."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import NotAnEvent
from mailer.events import Concerned, Event, EventType, Preferences, Subscription, read
from mailer.events.shapes import MAX_BODY
from mailer.ids import Attempt
from tests.ses_events import (
    ANA,
    ATTEMPT,
    BLOCKS,
    NOTIFIED,
    SES_ID,
    TEST_TEXT,
    Json,
    forms,
    in_eventbridge,
    in_sns,
    notified,
    published,
)

SENT = datetime(2026, 11, 5, 3, 0, 0, 120_000, UTC)


def at(hour: int, minute: int = 0, second: int = 0, day: int = 5) -> datetime:
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


# What each of the samples says, besides what all of them say.
SAID: dict[str, Json] = {
    "Send": {"time": SENT},
    "Delivery": {"time": at(3, 0, 2), "recipients": (Concerned(ANA, "", "250 2.6.0 Message received"),)},
    "Bounce": {
        "time": at(3, 0, 3),
        "recipients": (Concerned(ANA, "5.1.1", "smtp; 550 5.1.1 no such user"),),
        "bounce_type": "Permanent",
        "bounce_subtype": "NoEmail",
        "feedback_id": "0107019a1b2c9999-aaaa-000000",
    },
    "Complaint": {
        "time": at(9, day=6),
        "recipients": (Concerned(ANA),),
        "complaint_type": "abuse",
        "feedback_id": "0107019a1b2c8888-bbbb-000000",
    },
    "Reject": {"time": SENT, "reason": "Bad content"},
    "Rendering Failure": {"time": SENT, "reason": "Attribute 'first' is not present in the rendering data."},
    "DeliveryDelay": {
        "time": at(3, 10),
        "recipients": (Concerned(ANA, "4.2.2", "smtp; 452 4.2.2 mailbox full"),),
        "delay_type": "MailboxFull",
        "delay_ends": at(17),
    },
    "Subscription": {
        "time": at(8),
        "sender": "letter@news.example.com",
        "subscription": Subscription(
            "readers",
            "UnsubscribeHeader",
            Preferences(False, {"news": False, "offers": True}),
            Preferences(False, {"news": True, "offers": True}),
        ),
    },
    "Open": {"time": at(5)},
    "Click": {"time": at(5, 1)},
}


@pytest.mark.parametrize("form", ["raw", "sns", "eventbridge", "eventbridge in sns"])
@pytest.mark.parametrize("type", list(BLOCKS))
def test_what_a_configuration_set_publishes_is_read_alike_in_every_form(type: str, form: str) -> None:
    event = read(forms(published(type))[form])
    tags = event.tags
    assert event == Event(type=EventType(type), ses_message_id=SES_ID, destination=(ANA,), tags=tags, **SAID[type])
    assert (tags["mailer_id"], tags["team"], tags["ses:configuration-set"]) == (ATTEMPT, "growth", "bulk")
    assert event.attempt == Attempt("c01k8x7t3q9r5v2m0ab", 12, 340, 2)


@pytest.mark.parametrize("headers", [False, True])
@pytest.mark.parametrize("form", ["raw", "sns"])
@pytest.mark.parametrize("type", NOTIFIED)
def test_what_an_identity_notifies_of_is_the_same_without_tags(type: str, form: str, headers: bool) -> None:
    event = read(forms(notified(type, headers=headers))[form])
    assert event == Event(type=EventType(type), ses_message_id=SES_ID, destination=(ANA,), **SAID[type])
    assert event.attempt is None


def test_bytes_and_text_are_the_same() -> None:
    text = json.dumps(published("Bounce"))
    assert read(text) == read(text.encode())


def test_every_type_that_is_known_has_a_sample() -> None:
    assert set(BLOCKS) | {"test", "other", "Received"} == {type.value for type in EventType}


@pytest.mark.parametrize(
    "body",
    [
        TEST_TEXT,
        TEST_TEXT.encode(),
        f" {TEST_TEXT}\n",
        json.dumps(in_sns(TEST_TEXT)),
        json.dumps({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have successfully subscribed …"}),
        json.dumps(in_sns(json.dumps({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "…"}) + "\n")),
    ],
)
def test_what_ses_tries_a_topic_out_with_is_no_poison(body: str | bytes) -> None:
    assert read(body) == Event(type=EventType.TEST)


@pytest.mark.parametrize(
    "body",
    [
        {"eventType": "Teleport", "mail": {"messageId": SES_ID}, "teleport": {}},
        {"eventType": "Received", "mail": {"messageId": SES_ID}, "receipt": {}},
        {"notificationType": "Novel", "mail": {"messageId": SES_ID}},
    ],
)
def test_a_type_that_is_not_known_is_other_and_still_names_its_message(body: Json) -> None:
    assert read(json.dumps(body)) == Event(type=EventType.OTHER, ses_message_id=SES_ID)


def test_received_mail_is_a_type_of_its_own_in_every_form() -> None:
    body = json.dumps({"notificationType": "Received", "mail": {"messageId": "abc"}, "receipt": {}, "content": "From: …"})
    for form in (body, json.dumps(in_sns(body))):
        assert read(form) == Event(type=EventType.RECEIVED, ses_message_id="abc")


SAID_BY_A_SERVER = [
    (rb"smtp; 550 bo\u00eete pleine", "smtp; 550 boîte pleine"),
    (rb"smtp; 550 \ud83d gone", "smtp; 550 ? gone"),
    (rb"smtp; 550 \udfff\ud83d gone", "smtp; 550 ?? gone"),
    (rb"smtp; 550 \ud83d\ude00", "smtp; 550 \N{GRINNING FACE}"),
    (rb"smtp; 550 \ud83d \\ud83d", r"smtp; 550 ? \ud83d"),
    (b"smtp; 550 bo\xeete pleine", "smtp; 550 boîte pleine"),
    (b"smtp; 550 bo\xc3\xaete pl\xeeine", "smtp; 550 boîte plîine"),
    (b"smtp; 550 \xff\xfe", "smtp; 550 ÿþ"),
    (b"smtp; 550\tno\r\nsuch\x00user", "smtp; 550 no such user"),
]


@pytest.mark.parametrize(("said", "read_as"), SAID_BY_A_SERVER)
def test_an_event_is_taken_whatever_bytes_and_half_characters_a_mail_server_has_put_into_it(said: bytes, read_as: str) -> None:
    recipients = [{"emailAddress": ANA, "status": "5.1.1", "diagnosticCode": "@@"}]
    body = json.dumps(published("Bounce", bouncedRecipients=recipients)).encode().replace(b"@@", said)
    event = read(body)
    assert (event.type, event.attempt, event.recipients) == (
        EventType.BOUNCE, Attempt.parse(ATTEMPT), (Concerned(ANA, "5.1.1", read_as),),
    )  # fmt: skip
    if all(byte < 128 for byte in said):
        text = body.decode()
        assert read(text) == event
        assert read(json.dumps(in_sns(text))) == event


def test_half_a_character_in_an_address_a_tag_or_an_id_costs_nothing_but_that_value() -> None:
    event = published("Complaint", complainedRecipients=[{"emailAddress": "ana\ud800@example.org"}])
    event["mail"]["tags"]["\udc00"] = ["\ud800"]
    found = read(json.dumps(event))
    assert (found.attempt, [one.address for one in found.recipients]) == (Attempt.parse(ATTEMPT), ["ana?@example.org"])


def test_what_ses_says_of_the_account_over_eventbridge_is_other() -> None:
    body = in_eventbridge(published("Send")) | {"detail-type": "Sending Status Disabled", "detail": {"version": "1.0.0"}}
    assert read(json.dumps(body)) == Event(type=EventType.OTHER)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        b"\xff\xfe",
        "\ud800",
        '"\\ud800"',
        "null",
        "[]",
        "17",
        "{}",
        "[" * 100_000,
        '{"eventType":' * 100_000,
        " " * (MAX_BODY + 1),
        json.dumps({"eventType": "Send"}),
        json.dumps({"eventType": 5, "mail": {"messageId": SES_ID}}),
        json.dumps({"eventType": ["Send"], "mail": {"messageId": SES_ID}}),
        json.dumps({"eventType": "Send", "mail": [SES_ID]}),
        json.dumps({"eventType": "Send", "mail": {"messageId": 5}}),
        json.dumps({"eventType": "Send", "mail": {"messageId": "a b"}}),
        json.dumps({"eventType": "Send", "mail": {"messageId": "a\nb"}}),
        json.dumps({"eventType": "Send", "mail": {"messageId": "x" * 129}}),
        json.dumps({"eventType": "Bounce", "mail": {"messageId": SES_ID}}),
        json.dumps({"eventType": "Bounce", "mail": {"messageId": SES_ID}, "bounce": [{"bounceType": "Permanent"}]}),
        json.dumps({"eventType": "Subscription", "mail": {"messageId": SES_ID}, "subscription": {"contactList": "readers"}}),
        json.dumps(in_eventbridge(published("Send")) | {"source": "aws.ec2"}),
        json.dumps(in_sns("{}")),
        json.dumps(in_sns("not JSON, and not SES's test either")),
        json.dumps(in_sns(TEST_TEXT) | {"Message": {"eventType": "Send"}}),
        json.dumps(in_sns(json.dumps(in_sns(json.dumps(in_sns(json.dumps(published("Send")))))))),
        json.dumps({"Type": "SubscriptionConfirmation", "Token": "1", "SubscribeURL": "https://sns.example/"}),
    ],
)
def test_what_is_no_event_is_poison_and_its_reason_quotes_nothing_of_it(body: str | bytes) -> None:
    with pytest.raises(NotAnEvent) as caught:
        read(body)
    assert str(caught.value).startswith("This is not an event of Amazon SES: ")
    assert len(str(caught.value)) < 150
    assert "{" not in str(caught.value)


def test_of_a_name_that_comes_twice_the_last_one_counts_and_nothing_breaks() -> None:
    text = json.dumps(published("Bounce"))
    assert read(text[:-1] + ', "eventType": "Send"}').type is EventType.SEND


# ---- what a mail server or a stranger can put into it --------------------------------------------------------------


def test_words_of_a_mail_server_are_one_line_of_bounded_length_without_control_characters() -> None:
    said = "smtp; 550-5.7.1 no\r\n550 \x1b[2J\u202egnp.exe\x07\x00" + "x" * 5000
    recipients = [{"emailAddress": ANA, "status": "5.7.1\n", "diagnosticCode": said}]
    (concerned,) = read(json.dumps(published("Bounce", bouncedRecipients=recipients))).recipients
    assert concerned.diagnostic.startswith("smtp; 550-5.7.1 no 550 [2J gnp.exe xxx")
    assert concerned.diagnostic.isprintable()
    assert len(concerned.diagnostic) <= 1000
    assert concerned.status == "5.7.1"


@pytest.mark.parametrize(
    ("given_as", "address"),
    [
        ("Ana@EXAMPLE.org", "Ana@example.org"),
        ("<ana@example.org>", ANA),
        ('"Ana, of Example" <ana@example.org>', ANA),
        (" ana@example.org ", ANA),
        ("ana@exämple.org", "ana@xn--exmple-cua.org"),
        ("no address\nat all", "no address at all"),
        ("x" * 1000, "x" * 320),
    ],
)
def test_addresses_come_in_the_form_that_this_service_knows_them_by(given_as: str, address: str) -> None:
    event = read(json.dumps(published("Complaint", complainedRecipients=[{"emailAddress": given_as}])))
    assert [concerned.address for concerned in event.recipients] == [address]


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "x",
        "c1-0-0-0",
        "c1-0-0-1-1",
        f"c{'1' * 60}-0-0-1",
        f"c1-{'9' * 60}-0-1",
        f"c1-0-0-{'9' * 5000}",
        "c1-0-0-1\n",
        "c1-0-0-١",
    ],
)
def test_a_tag_that_is_not_one_of_ours_names_no_attempt(tag: str) -> None:
    event = published("Send")
    event["mail"]["tags"]["mailer_id"] = [tag]
    assert read(json.dumps(event)).attempt is None


@pytest.mark.parametrize(
    "tags", [None, [], "x", 5, {"mailer_id": ATTEMPT}, {"mailer_id": []}, {"mailer_id": [5]}, {"mailer_id": {}}]
)
def test_tags_of_another_form_are_none(tags: Any) -> None:
    event = published("Send")
    event["mail"]["tags"] = tags
    found = read(json.dumps(event))
    assert (found.tags, found.attempt) == ({}, None)


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        ("2026-11-05T04:00:02+01:00", at(3, 0, 2)),
        ("2026-11-05T03:00:02", at(3, 0, 2)),
        ("yesterday", SENT),
        ("0001-01-01T00:00:00+23:59", SENT),
        (1762311602, SENT),
        (None, SENT),
    ],
)
def test_a_time_that_cannot_be_read_is_that_of_the_message(timestamp: Any, time: datetime) -> None:
    assert read(json.dumps(published("Delivery", timestamp=timestamp))).time == time


def test_a_suppressed_complaint_and_who_left_every_topic_are_told() -> None:
    complaint = read(json.dumps(published("Complaint", complaintSubType="OnAccountSuppressionList", complaintFeedbackType=None)))
    assert (complaint.complaint_type, complaint.complaint_subtype) == ("", "OnAccountSuppressionList")
    for said in (True, "true"):
        left = read(json.dumps(published("Subscription", newTopicPreferences={"unsubscribeAll": said}, oldTopicPreferences=None)))
        assert left.subscription == Subscription("readers", "UnsubscribeHeader", Preferences(True, {}), None)


def test_no_more_recipients_than_a_message_can_have_are_read() -> None:
    assert len(read(json.dumps(published("Delivery", recipients=[ANA] * 5000))).recipients) == 50


# ---- anything at all -----------------------------------------------------------------------------------------------

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from(
        [*BLOCKS, "Notification", "aws.ses", SES_ID, ATTEMPT, ANA, "9" * 400, "2026-11-05T03:00:00Z", "\x00", "<<>@"]
    ),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8
)
samples = [
    *(published(type) for type in BLOCKS),
    *(notified(type) for type in NOTIFIED),
    in_eventbridge(published("Bounce")),
    in_sns(json.dumps(published("Complaint"))),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += places(item, (*path, key))
    return found


PLACES = [(sample, path) for sample in samples for path in places(sample)]


def is_event_or_not(body: str | bytes) -> None:
    try:
        event = read(body)
    except NotAnEvent:
        return
    assert isinstance(event, Event)
    assert isinstance(event.type, EventType)
    assert event.time is None or event.time.tzinfo is UTC
    assert event.attempt is None or str(event.attempt) == event.tags["mailer_id"]
    texts = [event.ses_message_id, event.bounce_type, event.bounce_subtype, event.reason, event.feedback_id, event.delay_type]
    texts += [part for concerned in event.recipients for part in (concerned.address, concerned.status, concerned.diagnostic)]
    assert all(isinstance(text, str) and text.isprintable() and len(text) <= 1000 for text in (*texts, *event.destination))
    assert event.ses_message_id or event.type in (EventType.TEST, EventType.OTHER, EventType.RECEIVED)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PLACES), values)
def test_anything_in_any_place_of_an_event_makes_an_event_or_poison(place: tuple[Json, tuple[Any, ...]], value: Any) -> None:
    sample, path = place
    changed = copy.deepcopy(sample)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    is_event_or_not(json.dumps(changed))


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | values.map(json.dumps) | st.text(max_size=100))
def test_anything_at_all_makes_an_event_or_poison(body: str | bytes) -> None:
    is_event_or_not(body)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(samples), st.integers(0, 4000), st.binary(max_size=4))
def test_an_event_with_other_bytes_in_it_makes_an_event_or_poison(sample: Json, place: int, other: bytes) -> None:
    body = json.dumps(sample).encode()
    is_event_or_not(body[:place] + other + body[place + len(other) :])
