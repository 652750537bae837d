"""The table: one suite of messages for every server. What is built here is what the service sends, by `mailer.compose`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import quote
from typing import Any

import orjson

from mailer.compose import Call, Item, Loaded, Mime, Values, plan
from mailer.ids import Attempt
from mailer.ledger.spec import File, Spec
from mailer.message.checks import mailbox as for_ses
from mailer.message.email import Lane, Mode
from mailer.message.mime import read_mime
from mailer.templates import Compiled, Content, Pieces

from .servers import Ability, Attachment, Mailbox, Message

CONTAINER = "c01k8x7t3q9r5v2m0ab"
STORED_NAME = "greeting"
STORED_ARN = f"arn:aws:ses:eu-west-1:123456789012:template/{STORED_NAME}"
NEWS = Mailbox("", "news@example.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A content and what goes on it: one message for each of the rows, sent to the row's own address or to `to`."""

    name: str
    way: Ability  # that the service is to choose
    needs: Sequence[Ability] = ()  # besides
    subject: str = "Hello"  # subject, html and text are Jinja2
    html: str | None = None
    text: str | None = None
    rows: Sequence[Mapping[str, Any]] = ({},)
    sender: Mailbox = NEWS
    to: Sequence[Mailbox] = ()
    cc: Sequence[Mailbox] = ()
    bcc: Sequence[Mailbox] = ()
    reply_to: Sequence[Mailbox] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    row_headers: Sequence[Mapping[str, str]] = ()
    row_tags: Sequence[Mapping[str, str]] = ()
    attachments: Sequence[Attachment] = ()
    mode: Mode = Mode.AUTO
    stored: bool = False  # subject, html and text are a template that is stored on the server, in a language that both read
    by_arn: bool = False  # it is named by its ARN
    mime: bytes | None = None  # the caller's own message; what it says is told again by the fields above
    more: Mapping[str, Any] = field(default_factory=dict)  # fields of Spec that no server shows

    @property
    def abilities(self) -> Sequence[Ability]:
        return (self.way, *self.needs)

    def calls(self) -> list[Call]:
        spec = Spec(
            lane=Lane.BULK,
            from_address=_typed(self.sender),
            reply_to=tuple(map(_typed, self.reply_to)),
            headers=self.headers if self.mime is None else {},
            tags=self.tags,
            mode=self.mode,
            ses_template=(STORED_ARN if self.by_arn else STORED_NAME) if self.stored else None,
            raw="its digest" if self.mime else None,
            files=tuple(loaded.file for loaded in self._files()),
            **self.more,
        )
        items = [
            Item(
                position=position,
                attempt=1,
                tag=_tag(position),
                to=tuple(map(_typed, self._to(position))),
                cc=tuple(map(_typed, self.cc)),
                bcc=tuple(map(_typed, self.bcc)),
                headers=_nth(self.row_headers, position),
                tags=_nth(self.row_tags, position),
                content=self._content(row),
            )
            for position, row in enumerate(self.rows)
        ]
        planned = plan(spec, items, self._files())
        assert planned.refused == []
        return planned.calls

    def _content(self, row: Mapping[str, Any]) -> Pieces | Values | Mime:
        if self.mime is not None:
            return Mime(read_mime(self.mime).mime)
        return Values(orjson.dumps(row).decode()) if self.stored else self._compiled().pieces(row)

    def _files(self) -> Sequence[Loaded]:
        if self.mime is not None:
            return ()
        return [
            Loaded(
                File(
                    name=one.filename,
                    content_type=one.content_type,
                    content_id=one.content_id,
                    description=None,
                    inline=one.content_id is not None,
                    digest="",
                    size=len(one.content),
                ),
                one.content,
            )
            for one in self.attachments
        ]

    def messages(self) -> list[Message]:
        """What has to arrive: rendered whole for each row, which is not how a bulk call carries it."""
        compiled = self._compiled()
        found = []
        for position, row in enumerate(self.rows):
            rendered = compiled.render(row)
            html, text = rendered.html, rendered.text
            if self.way is Ability.RAW:  # a MIME part ends with the end of a line
                html, text = (part and part.rstrip("\n") + "\n" for part in (html, text))
            found.append(
                Message(
                    sender=self.sender,
                    to=tuple(self._to(position)),
                    cc=tuple(self.cc),
                    bcc=tuple(self.bcc),
                    reply_to=tuple(self.reply_to),
                    subject=rendered.subject,
                    html=html,
                    text=text,
                    headers={**self.headers, **_nth(self.row_headers, position)},
                    tags={"mailer_id": _tag(position), **self.tags, **_nth(self.row_tags, position)},
                    attachments=tuple(self.attachments),
                )
            )
        return found

    def _compiled(self) -> Compiled:
        return Compiled(Content.inline(subject=self.subject, html=self.html, text=self.text))

    def _to(self, position: int) -> Sequence[Mailbox]:
        return self.to or (Mailbox("", f"u{position}@example.org"),)


def _nth(rows: Sequence[Mapping[str, str]], position: int) -> Mapping[str, str]:
    return rows[position] if rows else {}


def _tag(position: int) -> str:
    return str(Attempt(CONTAINER, 0, position, 1))


def _typed(box: Mailbox) -> str:
    """As a caller would write it, and then as the service writes it for SES."""
    return str(for_ses(f'"{quote(box.name)}" <{box.address}>' if box.name else box.address))


# ---- what is put in ------------------------------------------------------------------------------------------------

BOXES = (
    Mailbox("Ana", "ana@example.org"),
    Mailbox("Größe & Söhne", "post@bücher.example"),
    Mailbox('Doe, "Bob" (Jr.)', "bob+news@example.org"),
    Mailbox("株式会社アマゾン", "jp@例え.テスト.example"),
    Mailbox("Всем, кто читает эту рассылку, — от редакции, с благодарностью и наилучшими пожеланиями 👋", "ru@example.org"),
    Mailbox("محمد علي", "o'neill_{x}%y@example.org"),
)
# Values that a template language, JSON, HTML or a MIME writer could take for its own.
# fmt: off
VALUES = (
    "Ana", "Zoë O'Neill", "Ольга", "محمد علي", "शर्मा", "株式会社アマゾン", "👩‍👩‍👧 & co.", "𝔊𝔬𝔱𝔥", "\u200b\u2028x",
    "{{name}}", "{{v0}}", "{", "}", "{}", "}}", "{{{", "\\{{x}}", "{{#if x}}", "{{!--", "{{> x}}", "{{~x~}}", "$1", "%(x)s",
    '"', "'", '"; DROP', "\\", '\\"', "C:\\new", "a & b &amp; c", "<b>Bob</b>", "<script>", "</p>", "&#123;",
    "=?utf-8?q?x?=", "--", ".", "\ue0000\ue000",
)
# fmt: on
FIFTY = [{"name": VALUES[i % len(VALUES)], "city": VALUES[(7 * i + 3) % len(VALUES)], "n": i} for i in range(50)]

PAGE = (
    '<html><head><style>p{color:red}</style></head><body>\r\n<p class="a">Dear {{ name }},</p>\n\n'
    '<p>{{ city }} &amp; us: <a href="https://e.example/?n={{ name|urlencode }}&amp;c=1">your page</a></p>\n'
    "{% for x in [name, city] %}<td>{{ x }}</td>{% endfor %}{ {{ city }} } \\{{ name }}</body></html>\n"
)
LETTER = (
    "Dear {{ name }},\r\n\r\n{{ city }} — grüßt; {{ '{{' }}{{ city }}{{ '}}' }} \\{{ name }}}}} {{ '{{{raw}}}' }}\n. \n{{ n }}\n"
)
LITERAL = {"name": "{{name}}", "city": "Zoë & <Söhne>", "n": 1}
TWO = [{"name": "Ana", "city": "{{v0}}", "n": 1}, {"name": '"}}', "city": "", "n": 2}]

# In the order in which they stand in MIME: what is inside the HTML comes first.
FILES = (
    Attachment("logo.png", "image/png", b"\x89PNG\r\n\x1a\n", "logo@x"),
    Attachment("Übersicht (1).txt", "text/plain", "Größe\n".encode()),
    Attachment("every byte.bin", "application/octet-stream", bytes(range(256)) * 20),
)
SUBJECT = "{{ name }} — 株式会社アマゾンのお知らせ: очень длинная тема письма, {{ city }}"
LISTED = {"contact_list": "news", "topic": "june"}

MIME = """From: news@example.com
To: a@example.org
Cc: c@example.org
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
X-Mailing: june
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=mixed

--mixed
Content-Type: multipart/alternative; boundary=either

--either
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Zo=C3=AB

--either
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>Zo=C3=AB</p>

--either--
--mixed
Content-Type: text/plain; charset=utf-8
Content-Disposition: attachment; filename=a.txt
Content-Transfer-Encoding: base64

aGk=

--mixed--
"""

CASES: Sequence[Case] = (
    # SendEmail, simple
    Case(name="text", way=Ability.SIMPLE, text="Good morning.\n"),
    Case(name="html, and a text made of it", way=Ability.SIMPLE, html="<p>Good <b>morning</b>.</p>"),
    Case(name="both", way=Ability.SIMPLE, subject="Dear {{ name }}", html=PAGE, text=LETTER, rows=[LITERAL]),
    Case(
        name="other scripts",
        way=Ability.SIMPLE,
        subject="Größe: 株式会社 {{ name }}, 👋 и " + "очень длинная тема письма, " * 6,
        html="<p>Привет, {{ name }}! 𝔊𝔬𝔱𝔥 \u200b\u2028</p>",
        text="مرحبا {{ name }}\u2029 — “x”\ue000\n",
        rows=[{"name": "Zoë"}],
    ),
    Case(name="lines of any length and end", way=Ability.SIMPLE, text="x" * 5_000 + "\r\n.\r\n\n \t\n" + "é" * 3_000),
    Case(
        name="a large page", way=Ability.SIMPLE, html="<p>{{ big }}</p>", text="see above", rows=[{"big": "é'\"{{x}} " * 40_000}]
    ),
    Case(name="sender with a name", way=Ability.SIMPLE, text="x", sender=Mailbox("Größe, & Söhne", "news@example.com")),
    Case(name="recipients with names", way=Ability.SIMPLE, text="x", to=BOXES, cc=BOXES[1:3], bcc=BOXES[3:]),
    Case(name="cc and bcc", way=Ability.SIMPLE, text="x", cc=[Mailbox("", "c@example.org")], bcc=[Mailbox("", "b@example.org")]),
    Case(name="fifty recipients", way=Ability.SIMPLE, text="x", to=[Mailbox("", f"r{i}@example.org") for i in range(50)]),
    Case(name="replies go elsewhere", way=Ability.SIMPLE, text="x", reply_to=BOXES[:2]),
    Case(
        name="tags", way=Ability.SIMPLE, text="x", tags={"campaign": "june", "a_B-9": "v" * 256}, row_tags=[{"campaign": "july"}]
    ),
    Case(
        name="headers",
        way=Ability.SIMPLE,
        text="x",
        headers={
            "List-Unsubscribe": "<https://example.com/u?a=1&b={{c}}>, <mailto:u@example.com>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "X-Mailing": 'a "b" \\ {{c}} =?utf-8?q?Z=C3=B6e?=',
            "X-Long": "x" * 870,
        },
    ),
    Case(
        name="all that an account can ask for",
        way=Ability.SIMPLE,
        text="x",
        more={
            "feedback_address": "bounces@example.com",
            "identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com",
            "feedback_identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com",
            "configuration_set": "news",
            "tenant": "acme",
        },
    ),
    Case(
        name="attachments",
        way=Ability.SIMPLE,
        text="x",
        attachments=[
            Attachment("Größe.pdf", "application/pdf", bytes(range(256)) * 40),
            Attachment("a.txt", "text/plain", b"line\nline\n"),
        ],
    ),
    Case(name="an image inside", way=Ability.SIMPLE, html='<img src="cid:logo@x">', text="x", attachments=FILES),
    Case(name="a list that SES manages", way=Ability.SIMPLE, text="x", rows=[{}, {}], more=LISTED),
    # SendEmail, raw
    Case(
        name="the caller's own MIME",
        way=Ability.RAW,
        mime=MIME.encode(),
        subject="Grüße",
        html="<p>Zoë</p>\n",
        text="Zoë\n",
        to=[Mailbox("", "a@example.org")],
        cc=[Mailbox("", "c@example.org")],
        headers={"X-Mailing": "june"},
        attachments=[Attachment("a.txt", "text/plain", b"hi")],
    ),
    Case(
        name="more headers than a structured call has",
        way=Ability.RAW,
        subject="Größe: 株式会社 {{ name }}, 👋 и очень длинная тема письма, очень длинная тема письма",
        html="<p>Привет, {{ name }}!</p>\n",
        text="مرحبا {{ name }}\n",
        rows=[{"name": "Zoë"}],
        sender=Mailbox("Größe, & Söhne", "news@example.com"),
        to=BOXES[:2],
        cc=BOXES[2:4],
        reply_to=BOXES[4:],
        headers={f"X-{i}": f"value {i}" for i in range(16)},
        attachments=[Attachment("Größe.pdf", "application/pdf", bytes(range(256)))],
    ),
    Case(
        name="whatever is in the text",
        way=Ability.RAW,
        mode=Mode.RAW,
        subject=SUBJECT,
        html=PAGE.replace("\r", ""),
        text=LETTER.replace("\r", ""),
        rows=FIFTY[:8],
    ),
    Case(name="long lines", way=Ability.RAW, mode=Mode.RAW, html="<p>" + "é{x}" * 3_000, text="x" * 5_000 + "\n.\nFrom x\n"),
    Case(name="names", way=Ability.RAW, mode=Mode.RAW, text="x", to=BOXES, cc=BOXES[::-1], reply_to=BOXES),
    Case(name="in the envelope alone", way=Ability.RAW, mode=Mode.RAW, text="x", bcc=[Mailbox("", "b@example.org")]),
    Case(
        name="long headers",
        way=Ability.RAW,
        mode=Mode.RAW,
        text="x",
        headers={"List-Unsubscribe": f"<https://example.com/{'u' * 800}>, <mailto:u@example.com>", "X-Words": "w " * 400 + "w"},
    ),
    Case(
        name="an image inside",
        way=Ability.RAW,
        mode=Mode.RAW,
        needs=[Ability.RAW_IMAGES],
        html='<img src="cid:logo@x">',
        text="x",
        attachments=FILES,
    ),
    # SendEmail, template
    Case(
        name="stored, one",
        way=Ability.STORED,
        stored=True,
        subject="Grüße, {{name}}",
        html="<p>{{name}}</p>",
        text="{{name}}",
        rows=[{"name": "Ольга"}],
        headers={"X-Mailing": "june"},
        attachments=[Attachment("a.txt", "text/plain", b"hi")],
    ),
    Case(
        name="inline, one, because it was asked for",
        way=Ability.INLINE,
        mode=Mode.TEMPLATE,
        subject="Dear {{ name }}",
        html=PAGE,
        text=LETTER,
        rows=[LITERAL],
    ),
    Case(name="stored, by its ARN", way=Ability.STORED, stored=True, by_arn=True, text="{{name}}", rows=TWO[:1]),
    Case(
        name="inline, with attachments",
        way=Ability.INLINE,
        mode=Mode.TEMPLATE,
        html='<img src="cid:logo@x">{{ n }}',
        text="{{ n }}",
        rows=TWO,
        row_headers=[{"X-Row": "1"}, {"X-Row": "{{v0}}"}],
        attachments=FILES,
    ),
    # SendBulkEmail, stored template
    Case(
        name="stored, with headers of each",
        way=Ability.BULK_STORED,
        stored=True,
        text="{{name}}",
        rows=[{"name": value} for value in VALUES[:3]],
        headers={"X-Mailing": "june", "X-Row": "0"},
        row_headers=[{}, {"X-Row": "1"}, {"X-New": "2"}],
    ),
    Case(
        name="stored, fifty",
        way=Ability.BULK_STORED,
        stored=True,
        subject="Grüße, {{name}}",
        html="<p>{{name}}</p>",
        text="{{name}}, {{n}}",
        rows=[{"name": f"Zoë {i}", "n": i} for i in range(50)],
        headers={"X-Mailing": "june"},
    ),
    # SendBulkEmail, inline template
    Case(name="two", way=Ability.BULK_INLINE, subject="Dear {{ name }}", html=PAGE, text=LETTER, rows=TWO),
    Case(name="fifty", way=Ability.BULK_INLINE, subject="{{ city }}: {{ name }}!", html=PAGE, text=LETTER, rows=FIFTY),
    Case(name="fifty in html", way=Ability.BULK_INLINE, html="<p>{{ name }}</p>{{ city }}<br>", rows=FIFTY),
    Case(name="fifty in text", way=Ability.BULK_INLINE, subject="{{ name }}", text="{{ name }}{{ city }}\n", rows=FIFTY),
    Case(
        name="fifty that are all the same",
        way=Ability.BULK_INLINE,
        html="<p>{{ '{{x}}' }}</p>",
        text="{{ '}}{{' }}",
        rows=[{}] * 50,
    ),
    Case(
        name="two with everything beside the content",
        way=Ability.BULK_INLINE,
        text="{{ n }}",
        rows=TWO,
        sender=Mailbox("Größe & Söhne", "news@example.com"),
        cc=[Mailbox("", "c@example.org")],
        bcc=[Mailbox("", "b@bücher.example")],
        reply_to=BOXES[:2],
        headers={"List-Unsubscribe": "<https://example.com/u>", "X-Mailing": 'a "b" {{c}}'},
        tags={"campaign": "june"},
        row_tags=[{}, {"campaign": "july", "row": "2"}],
        more={"feedback_address": "bounces@example.com", "configuration_set": "news", "tenant": "acme"},
    ),
    Case(name="one alone, asked for", way=Ability.BULK_INLINE, mode=Mode.BULK, subject="{{ name }}", text=LETTER, rows=[LITERAL]),
    Case(
        name="headers of each",
        way=Ability.BULK_INLINE,
        text="{{ n }}",
        rows=TWO,
        headers={"X-Mailing": "june", "X-Row": "0"},
        row_headers=[{"X-Row": "1"}, {"X-New": "2"}],
    ),
    Case(name="attachments", way=Ability.BULK_INLINE, text="{{ n }}", rows=TWO, attachments=FILES),
    Case(name="two with names", way=Ability.BULK_INLINE, needs=[Ability.BULK_TO_NAMES], text="{{ n }}", rows=TWO, to=BOXES[1:3]),
)
