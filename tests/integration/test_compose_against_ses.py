"""From a template and rows to what arrives: sent by a real client over a socket, put together by the simulated SES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.compose import Item, Operation, plan
from mailer.ids import Attempt
from mailer.ledger.spec import Spec
from mailer.message.checks import mailbox
from mailer.message.email import Lane, Mode
from mailer.ses.gateway import Gateway
from mailer.simulator import Message, Simulator
from mailer.templates import Compiled, Content

CONTAINER = "c01k8x7t3q9r5v2m0ab"
SPEC = Spec(
    lane=Lane.BULK,
    from_address=mailbox("Größe & Söhne <news@example.com>"),
    reply_to=("help@example.com",),
    tags={"campaign": "june"},
    headers={"List-Unsubscribe": "<https://example.com/u>", "X-Mailing": 'a "b" {{c}}'},
)
TEMPLATES = {
    "html only": Content.inline(
        subject="{{ greeting }} {{ name }}!",
        html="<style>p{color:red}</style><p>Dear {{ name }},</p><p>{{ greeting }} from {{ city }} &amp; us: <a href="
        '"https://e.com/?n={{ name|urlencode }}&amp;c={{ city }}">your page</a></p><ul><li>{{ city }}</li></ul>{{ name }}\n',
        text=None,
    ),
    "both": Content.inline(
        subject="{{ name }} {{ '{{v0}}' }}",
        html="{% for x in [name, city] %}<td>{{ x }}</td>{% endfor %}{% if name > city %}<b>!</b>{% endif %}{ {{ city }} }",
        text="\\{{ name }}}} {{ '{{' }}{{ city }}{{ '}}' }}\r\n\n{{ name }}  \n1. {{ greeting }}\n",
    ),
    "text only": Content.inline(subject="{{ greeting }}", html=None, text="{{ name }}{{ city }}{{ '{' }}{{ name }}{{ '}' }}\\"),
}
COMPILED = {name: Compiled(content) for name, content in TEMPLATES.items()}

NAMES = [
    *(
        "Ana",
        "Zoë O'Neill",
        "Ольга",
        "محمد علي",
        "शर्मा",
        "株式会社アマゾン",
        "김민준",
        "Νίκος",
        "יעל",
        "ไพลิน",
        "👩‍👩‍👧 & co.",
        "𝔊𝔬𝔱𝔥",
    ),
    *(
        "{{name}}",
        "{{v0}}",
        "{",
        "}}",
        "\\{{x}}",
        "{{#if x}}",
        "{{!--",
        "<b>Bob</b>",
        '"; DROP',
        "a & b &amp; c",
        "<script>",
        "</p>",
    ),
    *("\ue0000\ue000", "C:\\new", "100%", "=?utf-8?q?x?=", "$1", "\u200b\u2028x", "--", "*_`#"),
]
word = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)
names = st.sampled_from(NAMES) | st.lists(word, min_size=1, max_size=3).map(" ".join)
rows = st.lists(st.fixed_dictionaries({"name": names, "city": names}), min_size=1, max_size=8)


@pytest.fixture
async def gateway(ses: Simulator) -> AsyncIterator[Gateway]:
    async with Gateway() as gateway:
        yield gateway


def item(compiled: Compiled, position: int, row: Mapping[str, Any], **fields: Any) -> Item:
    tag = str(Attempt(CONTAINER, 7, position, 1))
    to = (f"u{position}@example.org",)
    return Item(position=position, attempt=1, tag=tag, to=to, content=compiled.pieces(row), **fields)


async def send(gateway: Gateway, ses: Simulator, spec: Spec, items: Sequence[Item], together: bool) -> list[Message]:
    """What SES holds for each of the items, in their order."""
    calls = plan(spec, items).calls if together else [call for item in items for call in plan(spec, [item]).calls]
    found: list[Message] = []
    for call in calls:
        bulk = call.operation is Operation.SEND_BULK_EMAIL
        assert call.mode is (Mode.BULK if bulk else Mode.SIMPLE)
        answers, _ = await gateway.send(call.operation.value, call.params, call.body)
        assert [answer.refusal for answer in answers] == [None] * len(call.items)
        for answer in answers:
            assert answer.message_id is not None
            message = ses.mailroom.get(answer.message_id)
            assert message is not None
            found.append(message)
    return found


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(TEMPLATES)), together=st.booleans(), people=rows, greeting=names)
async def test_everybody_gets_exactly_what_was_rendered_for_them(
    gateway: Gateway, ses: Simulator, kind: str, together: bool, people: list[dict[str, str]], greeting: str
) -> None:
    compiled = COMPILED[kind]
    data = [{**person, "greeting": greeting} for person in people]
    items = [item(compiled, i, row, tags={"row": str(i)} if i % 2 else {}) for i, row in enumerate(data)]
    for i, message in enumerate(await send(gateway, ses, SPEC, items, together)):
        shown, rendered = message.content.show(), compiled.render(data[i])
        assert (shown.subject, shown.html, shown.text) == (rendered.subject, rendered.html, rendered.text)
        assert message.to == items[i].to, "and not another's"
        assert message.accepted.tags == {"mailer_id": items[i].tag, "campaign": "june", **items[i].tags}
        assert shown.headers == SPEC.headers
        assert message.reply_to == ("help@example.com",)
        assert message.accepted.sender == SPEC.from_address
        assert message.accepted.failure is None


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
@pytest.mark.parametrize("count", [1, 2, 50, 51, 117])
async def test_calls_of_every_size(gateway: Gateway, ses: Simulator, kind: str, count: int) -> None:
    data = [{"name": NAMES[i % len(NAMES)], "city": f"City {i}", "greeting": "Hello"} for i in range(count)]
    compiled = COMPILED[kind]
    messages = await send(gateway, ses, SPEC, [item(compiled, i, row) for i, row in enumerate(data)], True)
    assert [message.to for message in messages] == [(f"u{i}@example.org",) for i in range(count)]
    for row, message in zip(data, messages, strict=True):
        shown, rendered = message.content.show(), compiled.render(row)
        assert (shown.subject, shown.html, shown.text) == (rendered.subject, rendered.html, rendered.text)


@pytest.mark.parametrize("char", ["x", '"', "é", "😀", "\x7f"])
async def test_what_is_too_large_for_one_call_arrives_in_several(gateway: Gateway, ses: Simulator, char: str) -> None:
    compiled = Compiled(Content.inline(subject="s", html=None, text="{{ x }}"))
    data = [{"x": char * length} for length in (30_000, 90_000, 1, 250_000, 40_000, 2, 40_000)]
    messages = await send(gateway, ses, SPEC, [item(compiled, i, row) for i, row in enumerate(data)], True)
    assert [message.content.show().text for message in messages] == [row["x"] for row in data]


async def test_cc_bcc_and_the_senders_own_settings_arrive(gateway: Gateway, ses: Simulator) -> None:
    compiled = COMPILED["text only"]
    data = [{"name": "Ana", "city": "Lisbon", "greeting": str(i)} for i in range(3)]
    items = [
        item(compiled, i, row, cc=(mailbox("Zoë <c@example.org>"),), bcc=(f"b{i}@example.org",)) for i, row in enumerate(data)
    ]
    for together in (True, False):
        for i, message in enumerate(await send(gateway, ses, SPEC, items, together)):
            assert (message.to, message.cc, message.bcc) == (items[i].to, items[i].cc, (f"b{i}@example.org",))
