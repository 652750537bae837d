"""What SES means by its words, whatever code or status it tells them under."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from mailer.ses import refusals
from mailer.ses.refusals import Kind, Refusal, classify, classify_call, classify_entry

from .test_ses_refusals import FORBIDDEN, FROM, LISTED, answer

TEXTS: list[tuple[str, Kind]] = [
    ("Sending paused for this account. For more information, please check the inbox", Kind.PAUSED),
    ("554 Transaction failed: Sending paused for this account.", Kind.PAUSED),
    ("Account sending is paused", Kind.PAUSED),
    ("Email sending is disabled for your account.", Kind.PAUSED),
    ("Your account's ability to send email has been paused.", Kind.PAUSED),
    ("Sending paused for tenant acme.", Kind.PAUSED),
    ("The tenant acme is disabled", Kind.PAUSED),
    ("Sending paused for configuration set news.", Kind.PAUSED_SET),
    ("Sending is disabled for the configuration set news.", Kind.PAUSED_SET),
    ("Configuration set news is paused", Kind.PAUSED_SET),
    ("Account is suspended.", Kind.SUSPENDED),
    ("Your account has been suspended", Kind.SUSPENDED),
    ("This account was shut down.", Kind.SUSPENDED),
    ("Daily message quota exceeded.", Kind.DAILY),
    ("Throttling failure: Daily message quota exceeded.", Kind.DAILY),
    ("Daily sending quota exceeded", Kind.DAILY),
    ("You have reached your daily sending limit", Kind.DAILY),
    ("24-hour sending quota exceeded", Kind.DAILY),
    ("The quota of messages in 24 hours is used up", Kind.DAILY),
    ("Maximum sending rate exceeded.", Kind.RATE),
    ("Throttling failure: Maximum sending rate exceeded.", Kind.RATE),
    ("maximum send rate exceeded", Kind.RATE),
    ("Rate exceeded", Kind.CALLS),
    ("Too many requests", Kind.CALLS),
]
TEXTS += [
    ("Sending suspended for this account.", Kind.SUSPENDED),
    ("The account is closed.", Kind.SUSPENDED),
    ("Your ability to send email is currently paused.", Kind.PAUSED),
    ("Amazon SES has temporarily paused your account's ability to send email.", Kind.PAUSED),
    ("We have temporarily suspended your account's ability to send email.", Kind.PAUSED),
    ("Your account is under review.", Kind.PAUSED),
    ("Status of the account: 'DISABLED'", Kind.PAUSED),
    ("ACCOUNT_SENDING_PAUSED", Kind.PAUSED),
    ("Because of its bounce rate, this account is paused.", Kind.PAUSED),
    ("Sending is paused: the complaint rate of your account has exceeded the limit.", Kind.PAUSED),
    ("Suspended: tenant acme", Kind.PAUSED),
    ("Suspended: configuration set news", Kind.PAUSED_SET),
    ("Sending quota exceeded.", Kind.DAILY),
    ("Message quota exceeded", Kind.DAILY),
    ("Quota exceeded", Kind.DAILY),
    ("Account sending limit reached", Kind.DAILY),
    ("Maximum number of messages exceeded", Kind.DAILY),
    ("Maximum number of messages per day exceeded", Kind.DAILY),
    ("You have sent too many messages today", Kind.DAILY),
    ("Maximum number of recipients per 24 hours exceeded", Kind.DAILY),
    ("Maximum number of messages per second exceeded", Kind.RATE),
    ("You are sending too fast.", Kind.RATE),
    ("The maximum rate of your account is exceeded", Kind.RATE),
    ("Sending is throttled for this account", Kind.RATE),
    ("Rate limit exceeded", Kind.CALLS),
    ("Throttle limit exceeded", Kind.CALLS),
    ("Your sending privileges have been revoked", Kind.PAUSED),
    ("AWS account is not active", Kind.PAUSED),
    ("Sending is not enabled for this account", Kind.PAUSED),
    ("Email sending is temporarily unavailable for your account", Kind.PAUSED),
    ("Your daily allowance is used up", Kind.DAILY),
    ("Max24HourSend exceeded", Kind.DAILY),
    ("MaxSendRate exceeded", Kind.RATE),
]
NOT_ACCEPTED = [code for code, rules in refusals.CODES.items() if rules[-1].kind is not Kind.AMBIGUOUS]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_a_text_that_holds_for_more_than_the_message_decides_under_every_code_and_status(text: str, kind: Kind) -> None:
    for code in (*NOT_ACCEPTED, "BrandNew", "400"):
        for name in (code, f"{code}Exception"):
            assert classify(answer(name, 400, text), from_address=FROM, to=["ana@example.org"]).kind is kind, name
    for status in (*(set(refusals.STATUSES) - {"SUCCESS"}), "SOMETHING_NEW"):
        refusal = classify_entry({"Status": status, "Error": text}, from_address=FROM, to=["ana@example.org"])
        assert refusal is not None
        assert refusal.kind is kind, status


@pytest.mark.parametrize(("text", "_"), TEXTS)
def test_no_text_makes_an_answer_safe_that_may_follow_an_acceptance(text: str, _: Kind) -> None:
    assert classify(answer("InternalFailure", 500, text)).kind is Kind.AMBIGUOUS
    assert classify(answer("RequestAbortedException", 400, text)).kind is Kind.AMBIGUOUS
    assert classify(answer("502", 502, text)).kind is Kind.AMBIGUOUS


@pytest.mark.parametrize(
    "text",
    [
        "Invalid email address<sending paused for this account@example.org>.",
        "Invalid address: Sending paused for this account <ana@example.org>",
        "1 validation error detected: Value 'Daily message quota exceeded' at 'emailTags.1.member.value' failed to satisfy …",
        'Illegal header "Account is suspended"',
        "Value `Maximum sending rate exceeded` at 'content.simple.headers.2.member.value' failed to satisfy constraint",
    ],
)
def test_words_that_a_list_put_into_the_request_hold_for_nobody_else(text: str) -> None:
    assert classify(answer("BadRequestException", 400, text), from_address=FROM, to=["ana@example.org"]).kind is Kind.MESSAGE
    refusal = classify_entry({"Status": "INVALID_PARAMETER", "Error": text}, from_address=FROM, to=["ana@example.org"])
    assert refusal is not None
    assert refusal.kind is Kind.MESSAGE


# ---- in any order of words ---------------------------------------------------------------------------------------------

ACCOUNTS = [
    "this account",
    "your AWS account",
    "account 123456789012",
    "your account's ability to send email",
    "your ability to send",
]
HALTED = [
    "is paused",
    "was suspended",
    "has been disabled",
    "is shut down",
    "has been placed under review",
    "(temporarily paused)",
]
LIMITS = ["sending quota", "message quota", "maximum number of messages", "limit of messages", "account's sending limit"]
SPANS = {"per day": Kind.DAILY, "in 24 hours": Kind.DAILY, "today": Kind.DAILY, "daily": Kind.DAILY, "": Kind.DAILY}
SPANS |= {"per second": Kind.RATE, "rate": Kind.RATE}
FILLERS = ["", "by Amazon SES", "554 Transaction failed:", "as of now,", "please check your inbox,", "in eu-west-1"]


def in_any_order(*parts: str) -> st.SearchStrategy[str]:
    said = st.tuples(st.permutations(parts), st.sampled_from(FILLERS), st.sampled_from(["", ".", " Please see the console."]))
    made = said.map(lambda it: " ".join(filter(None, (it[1], *it[0]))) + it[2])
    return made | made.map(str.upper) | made.map(str.capitalize)


HALTS = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(HALTED)).flatmap(lambda it: in_any_order(*it))
SPENT = st.sampled_from(["exceeded", "has been reached", "is exhausted", "is used up"])


def refusals_of(text: str) -> list[Refusal | None]:
    call = classify(answer("MessageRejected", 400, text), from_address=FROM, to=["ana@example.org"])
    return [call, classify_entry({"Status": "MESSAGE_REJECTED", "Error": text}, from_address=FROM, to=["ana@example.org"])]


@given(HALTS)
def test_an_account_that_may_not_send_is_known_in_any_order_of_words(text: str) -> None:
    assert {one and one.kind for one in refusals_of(text)} <= {Kind.PAUSED, Kind.SUSPENDED}


@given(st.data(), st.sampled_from(LIMITS), st.sampled_from(sorted(SPANS)), SPENT)
def test_a_quota_that_is_used_up_is_known_in_any_order_of_words(data: st.DataObject, limit: str, span: str, spent: str) -> None:
    text = data.draw(in_any_order(limit, span, spent))
    assert {one and one.kind for one in refusals_of(text)} == {SPANS[span]}, text


NAMED = [
    "Attachment '{}.pdf' has a type that is not allowed.",
    "Attachment type not allowed: {}.pdf",
    "Illegal file name <{}.pdf>",
    "Message content flagged as phishing: {}",
    "The message holds {}.pdf, and that is not allowed",
    "Illegal header 'X-Note: {}'",
    "The header X-Note has an illegal character: {}",
    'The subject "{}" is not to our taste',
    "Invalid address: {}",
    "Not for ana@example.org: {}",
    "Attribute '{}' is not present in the rendering data",
    "1 validation error detected: Value '{}' at 'emailTags.1.member.value' failed to satisfy constraint: …",
]


@given(
    st.sampled_from(NAMED), HALTS | st.sampled_from(["account paused", "sending suspended", "daily quota exceeded", "SUSPENDED"])
)
def test_words_of_a_file_a_header_or_an_address_reject_that_message_alone(text: str, name: str) -> None:
    said = text.format(name.strip(".").replace(". ", " "))
    assert {one and one.kind for one in refusals_of(said)} == {Kind.MESSAGE}, said


@pytest.mark.parametrize(
    "text",
    [
        "Message length is 41943041, maximum is 41943040",
        "The message exceeds the maximum size",
        "Recipient count exceeds 50.",
        "The number of recipients of this message exceeds the limit",
        "The mailbox is over its quota",
        "The maximum number of attachments is exceeded",
        "The limit of 500 parts is exceeded",
        "Sending to this address is disabled",
        "The recipient's account is disabled",
        "Attribute account_paused is not present in the rendering data",
        "Message contains a virus.",
    ],
)
def test_a_limit_or_state_of_the_message_or_its_recipient_rejects_that_message_alone(text: str) -> None:
    assert {one and one.kind for one in refusals_of(text)} == {Kind.MESSAGE}


ALONE = [
    "Address blacklisted",
    "Missing final '@domain'",
    "Missing domain",
    "Local address contains control or whitespace",
    "Domain contains control or whitespace",
    "Invalid email address<ana@@example.org>.",
    "Recipient address rejected",
    "Address length is more than 320 characters long: 'x'.",
    "1 validation error detected: Value at 'destination.toAddresses.1.member' failed to satisfy constraint: …",
    "Not this one: ana@example.org",
]
TOGETHER = [
    "Message contains a virus.",
    "The sender's address is blocked",
    "Your account may not send to this domain",
    "Something that nobody has heard of",
    "The message is not to our taste (as is bana@example.org)",
]


@pytest.mark.parametrize("text", [*ALONE, *TOGETHER])
def test_a_refusal_says_whether_it_is_about_one_recipient(text: str) -> None:
    refusal = classify(answer("MessageRejected", 400, text), from_address=FROM, to=["ana@example.org"])
    assert (refusal.kind, refusal.alone) == (Kind.MESSAGE, text in ALONE)


# ---- what is alike ---------------------------------------------------------------------------------------------------


def refused(text: str) -> Refusal:
    return classify(answer("MessageRejected", 400, text))


ADDRESS = st.from_regex(r"[a-z0-9._+-]{1,20}@[a-z0-9-]{1,20}\.(org|de)", fullmatch=True)
NAMES = st.tuples(ADDRESS, st.uuids(), st.integers(0, 10**9))


@given(NAMES, NAMES)
def test_refusals_that_differ_in_whom_and_which_request_they_name_are_alike(
    one: tuple[object, ...], other: tuple[object, ...]
) -> None:
    text = "No more of it for {} (request {}, number {}) today"
    assert refused(text.format(*one)).alike == refused(text.format(*other)).alike


def test_refusals_that_differ_in_code_or_words_are_not_alike() -> None:
    assert refused("one thing").alike != refused("another thing").alike
    assert refused("one thing").alike != classify(answer("BadRequestException", 400, "one thing")).alike


# ---- a call of several messages ----------------------------------------------------------------------------------------

TO = [[f"u{i}@example.org"] for i in range(4)]


def kinds(error: ClientError) -> list[Kind]:
    return [one.kind for one in classify_call(error, from_address=FROM, to=TO)]


def test_of_a_call_that_is_refused_whole_those_are_refused_that_are_named_and_the_others_are_sent_without_them() -> None:
    named = answer("MessageRejected", 400, "Not for u2@example.org", "SendBulkEmail")
    assert kinds(named) == [Kind.BESIDE, Kind.BESIDE, Kind.MESSAGE, Kind.BESIDE]
    sandbox = answer("MessageRejected", 400, f"{LISTED}u1@example.org, u3@example.org", "SendBulkEmail")
    assert kinds(sandbox) == [Kind.BESIDE, Kind.SANDBOX, Kind.BESIDE, Kind.SANDBOX]
    assert kinds(answer("BadRequestException", 400, "Something is not right", "SendBulkEmail")) == [Kind.BESIDE] * 4


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer("AccessDeniedException", 403, FORBIDDEN), Kind.CONFIG),
        (answer("TooManyRequestsException", 429, "Maximum sending rate exceeded."), Kind.RATE),
        (answer("MessageRejected", 400, "Sending paused for this account."), Kind.PAUSED),
        (answer("MessageRejected", 400, f"{LISTED}{FROM}"), Kind.CONFIG),
        (answer("InternalFailure", 500, "u1@example.org"), Kind.AMBIGUOUS),
        (TimeoutError(), Kind.AMBIGUOUS),
    ],
)
def test_what_holds_for_a_call_holds_for_each_of_its_messages(error: ClientError, kind: Kind) -> None:
    assert kinds(error) == [kind] * 4
