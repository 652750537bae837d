"""What a reader would see wrongly is said before anything is sent, once, and nothing is said of what is right."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer import Attachment, Campaign, Email, Mailer, Sender, Settings
from mailer.compose.hints import CLIPPED
from mailer.recipients import Recipient

WAYS = {"url": "https://e.example/u/{token}"}
SENDERS = {
    "news": Sender(from_="news@example.com", list_unsubscribe=WAYS),
    "mail": Sender(from_="news@example.com", list_unsubscribe={"mailto": "u@e.example"}),
}
SETTINGS = Settings(senders=SENDERS)
STOP = "<a href='{{ unsubscribe_url }}'>Unsubscribe</a>"
LOGO = Attachment(name="logo.png", content=b"x", content_id="logo")


def rows(*data: dict[str, Any]) -> list[Recipient]:
    return [Recipient(n, f"p{n}@example.org", one) for n, one in enumerate(data, 1)]


def advised(html: str, *data: dict[str, Any], **fields: Any) -> list[str]:
    campaign = Campaign(**{"sender": "news", "subject": "s", "html": html, **fields})
    return list(Mailer(SETTINGS).advice(campaign, rows(*(data or ({},)))))


# ---- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "false", "true"),
    [
        (["TRUE", "FALSE"], "FALSE", "TRUE"),
        (["0", "1", ""], "0", "1"),
        (["yes", "no"], "no", "yes"),
        (["Ja", "Nein"], "Nein", "Ja"),
        (["no"], "no", "TRUE"),
        (["TRUE", "FALSE", "0", "no"], "0", "TRUE"),
    ],
)
def test_words_for_true_and_false_in_a_condition_are_hinted_at(values: list[str], false: str, true: str) -> None:
    wanted = (
        f"{{% if vip %}} holds also for '{false}', because that is a text, and only an empty one is false; "
        f"write {{% if vip == '{true}' %}}"
    )
    for condition in ("{% if vip %}a{% endif %}", "{{ 'a' if vip else 'b' }}", "{% if not vip or x %}a{% endif %}"):
        assert advised(f"x{condition}{STOP}", *({"vip": value} for value in values)) == [wanted]


BECAUSE = ", because that is a text; write {% if "


@pytest.mark.parametrize(
    ("condition", "values", "hint"),
    [
        ("vip == true", ["TRUE", "FALSE"], "vip == true %} never holds for 'TRUE'" + BECAUSE + "vip == 'TRUE' %}"),
        ("vip == false", ["TRUE", "FALSE"], "vip == false %} never holds for 'FALSE'" + BECAUSE + "vip == 'FALSE' %}"),
        ("True != vip", ["yes", "no"], "vip != true %} always holds for 'yes'" + BECAUSE + "vip != 'yes' %}"),
        ("vip is true", ["TRUE", "FALSE"], "vip == true %} never holds for 'TRUE'" + BECAUSE + "vip == 'TRUE' %}"),
        ("x or vip == true", ["no"], "vip == true %} never holds for 'TRUE'" + BECAUSE + "vip == 'TRUE' %}"),
        ("vip == 1", ["0", "1"], "vip == 1 %} never holds for '0'" + BECAUSE + "vip|float == 1 %}"),
        ("vip == 12.5", ["12.5", "3"], "vip == 12.5 %} never holds for '12.5'" + BECAUSE + "vip|float == 12.5 %}"),
        ("vip == 1", ["TRUE", "FALSE"], "vip == 1 %} never holds for 'TRUE'" + BECAUSE + "vip == 'TRUE' %}"),
        (
            'row["vip"] == true',
            ["TRUE"],
            "row[\"vip\"] == true %} never holds for 'TRUE'" + BECAUSE + "row[\"vip\"] == 'TRUE' %}",
        ),
    ],
)
def test_a_condition_that_a_text_never_meets_is_hinted_at(condition: str, values: list[str], hint: str) -> None:
    source = f"x{{% if {condition} %}}a{{% endif %}}{STOP}"
    assert advised(source, *({"vip": value} for value in values)) == ["{% if " + hint]


@pytest.mark.parametrize("condition", ['row["VIP card"]', "not row['VIP card'] or x", "vip_card", "vip_card|trim"])
def test_a_condition_on_a_column_by_its_name_is_hinted_at(condition: str) -> None:
    (hint,) = advised(f"x{{% if {condition} %}}a{{% endif %}}{STOP}", {"VIP card": "TRUE"}, {"VIP card": "FALSE"})
    written = 'row["VIP card"]' if "row" in condition else "vip_card"
    assert hint.startswith(f"{{% if {written} %}} holds also for 'FALSE', because")
    assert hint.endswith(f"write {{% if {written} == 'TRUE' %}}")


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("{% if vip == true %}a{% endif %}", [True, False]),
        ("{% if vip == 1 %}a{% endif %}", [1, 0]),
        ("{% if vip == 1 %}a{% endif %}", ["gold"]),
        ("{% if vip == true %}a{% endif %}", ["gold", "TRUE"]),
        ("{% if row.vip == 'TRUE' %}a{% endif %}", ["FALSE"]),
        ("{% set vip = true %}{% if vip == true %}a{% endif %}", ["FALSE"]),
        ("{% if vip|length == 4 %}a{% endif %}", ["TRUE"]),
        ("{% if vip %}a{% endif %}", [True, False]),  # of NDJSON and of programs
        ("{% if vip %}a{% endif %}", ["gold", "no"]),
        ("{% if vip %}a{% endif %}", ["yes", ""]),
        ("{% if vip == 'TRUE' %}a{% endif %}", ["TRUE", "FALSE"]),
        ("{{ vip }}", ["TRUE", "FALSE"]),
        ("{% if vip|int > 0 %}a{% endif %}", ["0", "1"]),
    ],
)
def test_conditions_that_are_right_are_not(source: str, values: list[Any]) -> None:
    assert advised(f"x{source}{STOP}", *({"vip": value} for value in values)) == []


def test_a_slip_in_what_the_template_only_asks_for_is_hinted_at() -> None:
    source = f"x{{% if frist_name %}}a{{% endif %}}{{{{ nothing_like_it|default('-') }}}}{STOP}"
    assert advised(source, {"first_name": "Ana"}, {}) == [
        "the template asks for 'frist_name', which none of the first rows has; is 'first_name' meant?"
    ]
    assert advised(source, {"first_name": "Ana", "frist_name": "A"}) == []
    assert advised(source, {"first_name": "Ana"}, data={"frist_name": "A"}) == []


# ---- the message -----------------------------------------------------------------------------------------------------


def test_html_that_gmail_clips_is_hinted_at() -> None:
    assert advised("x" * (CLIPPED - 200) + STOP) == []
    assert advised("x" * CLIPPED + STOP) == ["the HTML has 102 kB, and Gmail clips a message at 102 kB"]
    grows = f"{{% for n in range(count) %}}<p>paragraph</p>{{% endfor %}}{STOP}"
    assert advised(grows, {"count": 10}, {"count": 10_000}) == ["the HTML has 160 kB, and Gmail clips a message at 102 kB"]


def nowhere(listed: str) -> list[str]:
    return [f"the HTML has addresses that lead nowhere from a mail: {listed}; write them whole, with https://"]


def own(listed: str) -> list[str]:
    return [f"the HTML has addresses that only your own machine or network reaches: {listed}"]


def no_server(listed: str) -> list[str]:
    return [f"the HTML has addresses without the name of a server: {listed}; write them as https://example.com/page"]


def attach(listed: str, first: str) -> list[str]:
    return [f"the HTML shows {listed}, and no attachment has that content id; attach it as FILE;cid={first}"]


@pytest.mark.parametrize(
    ("html", "hints"),
    [
        ('<img src="cid:logo" alt="Logo">', []),
        ('<img src="cid:Logo.png">', attach("'cid:Logo.png'", "Logo.png")),
        ('<td background="cid:a"><img src=cid:b>', attach("'cid:a', 'cid:b'", "a")),
        ('<img src="a.png"><img src="/i/a.png"><a href="/page">x</a>', nowhere("'a.png', '/i/a.png', '/page'")),
        ('<img src="//cdn.example/a.png">', nowhere("'//cdn.example/a.png'")),
        ('<a href="www.example.com">x</a>', nowhere("'www.example.com'")),
        ('<img src="http://localhost:3000/a.png">', own("'http://localhost:3000/a.png'")),
        ('<a href="https://127.0.0.1/x">x</a>', own("'https://127.0.0.1/x'")),
        ('<a href="http://192.168.1.7/x">x</a><a href="http://[::1]/">y</a>', own("'http://192.168.1.7/x', 'http://[::1]/'")),
        ('<img src="file:///home/ana/a.png">', own("'file:///home/ana/a.png'")),
        ('<a href="{{ link }}">x</a>', []),
        ('<a href="#top">x</a><a href="mailto:a@b.example">x</a><a href="tel:+41">x</a><a name="x">x</a><a href="">x</a>', []),
        ('<img src="https://e.example/a.png"><img src="HTTP://e.example/a.png"><img src="data:image/png;base64,iVBO">', []),
        (
            "<!--[if mso]><img src='logo.png'><![endif]--><style>/* url(x) */ a { background: url(https://e.example/x) }</style>",
            [],
        ),
        ("<a href='http://localhost.example.com/'>x</a><a href='https://10.example/'>x</a>", []),
        (
            "<i style='background:url(img/bg.png)'>x</i><i style='background: URL( \"b.png\" )'>x</i>",
            nowhere("'img/bg.png', 'b.png'"),
        ),
        ("<style>a { background: url('x.png') } @import \"y.css\";</style>", nowhere("'x.png', 'y.css'")),
        (
            "<i style='background:url(data:image/png,iV)'>x</i><style>@font-face { src: url(https://e.example/f) }</style>",
            [],
        ),
        ("<img srcset='a.png 1x, https://e.example/b.png 2x' src='https://e.example/b.png'>", nowhere("'a.png'")),
        ("<img srcset='https://e.example/a,b.png 1x, data:image/png;base64,iV 2x'>", []),
        ("<link rel=stylesheet href='/style.css'><form action='/x'></form>", nowhere("'/style.css', '/x'")),
        ("<img src='C:\\x.png'><img src='c:/x.png'>", own("'C:\\x.png', 'c:/x.png'")),
        ("<a href='https://intranet/x'>x</a><a href='http://wiki:8080'>x</a>", own("'https://intranet/x', 'http://wiki:8080'")),
        ("<a href='https:// example.com'>x</a><a href='http://'>y</a>", no_server("'https:// example.com', 'http://'")),
        ("<a href='https:///x'>x</a><a href='http://['>y</a>", no_server("'https:///x', 'http://['")),
        ("<a href='https://[2001:db8::1]/'>x</a><a href='https://e.example/a b'>x</a><img src='blob:http://x/y'>", []),
    ],
)
def test_addresses_that_show_nothing_to_a_reader_are_hinted_at(html: str, hints: list[str]) -> None:
    assert advised(f"x{html}{STOP}", {"link": "https://e.example/"}, attachments=[LOGO]) == hints


@pytest.mark.parametrize(
    "html",
    [
        "<p hidden>x</p>",
        "<div style='display:none'>x</div>",
        "<p style='font-size:0'>x</p>",
        "<img src='https://e.example/o' width=1 height=1>",
    ],
)
def test_rows_of_which_a_reader_sees_nothing_fail_and_a_hint_says_so(html: str) -> None:
    why = "the message is empty for this row: a reader sees nothing of its HTML or text"
    assert advised("{{ x }}" + html, {"x": ""}) == [f"the first rows would fail: {why}"]
    assert why not in str(advised("{{ x }}" + html, {"x": "x"}))


def test_html_of_which_a_reader_sees_nothing_is_hinted_at_where_it_is_sent() -> None:
    why = "a reader sees nothing of the HTML: all of it is empty or hidden"
    by_style = "<style>#a{display:none}</style><p id=a>{{ unsubscribe_url }}</p>"
    assert why in advised(by_style)
    assert why not in advised(by_style + "<p>x</p>")
    assert advised(f"<p hidden>{STOP}</p>", text="{{ unsubscribe_url }}") == [why]


def test_many_addresses_are_one_line() -> None:
    html = "".join(f"<img src='{n}.png'>" for n in range(50)) + f"<a href='/{'x' * 200}'>x</a>{STOP}"
    (hint,) = advised(html)
    assert "'0.png', '1.png', '2.png' and 48 more; write" in hint


def test_an_address_that_only_a_row_makes_relative_is_hinted_at() -> None:
    links = ({"link": "https://e.example/"}, {"link": "www.e.example"})
    assert advised(f"<a href='{{{{ link }}}}'>x</a>{STOP}", *links) == nowhere("'www.e.example'")


@pytest.mark.parametrize(
    ("html", "hint"),
    [
        ("<p>x</p>", "the mail has no unsubscribe link that a reader sees; {{ unsubscribe_url }} is the recipient's own"),
        ("<a href='{{ unsubscribe_url }}'>leave us</a>", None),  # the address has the word in it
        ("<p>Newsletter abbestellen</p>", None),
        ("<p>Se désabonner</p>", None),
        ("<p>Manage your preferences</p>", None),
    ],
)
def test_bulk_mail_without_a_link_to_leave_is_hinted_at(html: str, hint: str | None) -> None:
    senders = {"news": Sender(from_="a@example.com", list_unsubscribe={"url": "https://e.example/unsubscribe/{token}"})}
    mailer = Mailer(Settings(senders=senders))
    campaign = Campaign(sender="news", subject="s", html=html)
    assert list(mailer.advice(campaign, rows({}))) == ([] if hint is None else [hint])
    single = Campaign(sender="news", subject="s", html=html, lane="transactional")
    assert list(mailer.advice(single, rows({}))) == []


def test_only_the_more_important_hint_about_leaving_is_given() -> None:
    (hint,) = advised("<p>x</p>", sender=None, from_="news@example.com")
    assert "List-Unsubscribe header" in hint
    assert advised("<p>x</p>", sender="mail") == ["the mail has no unsubscribe link that a reader sees"]
    assert advised("<a href='{{ unsubscribe_url }}'>x</a>", contact_list="readers") == []


OTHERS = "'*|FNAME|*', '%%first_name%%', '[FIRSTNAME]' stands in the mail as it is, for it is another service's"


@pytest.mark.parametrize(
    ("html", "hint"),
    [
        ("Dear *|FNAME|* %%first_name%% [FIRSTNAME]", f"{OTHERS}; here a value is {{{{ name }}}}"),
        ("u/{token}", "{token} stands in the mail as it is; the recipient's own link is {{ unsubscribe_url }}"),
        ("100% of [x] and {x} and 5%% more", None),
    ],
)
def test_what_another_service_would_have_filled_in_is_hinted_at(html: str, hint: str | None) -> None:
    assert advised(f"{html}{STOP}") == ([] if hint is None else [hint])
    assert advised(STOP, subject=html) == ([] if hint is None else [hint])


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("Dear {name},", "'{name}' {}{{ name }}"),
        ("{first_name} {First Name}", "'{first_name}', '{First Name}' {}{{ first_name }}"),
        ("{ 1. Name }", "'{ 1. Name }' {}{{ row[\"1. Name\"] }}"),
        ("${name} #{name} {$name} [[name]] %name%", "'${name}', '#{name}', '{$name}' and 2 more {}{{ name }}"),
        ("{email} {city}", "'{email}', '{city}' {}{{ email }}"),
        ("<style>p {color}</style> {other} {token2} {{ name }} [name] 5%name 100%", None),
    ],
)
def test_a_name_of_the_data_in_one_brace_is_hinted_at(source: str, shown: str | None) -> None:
    wanted = [shown.replace("{}", "stands in the mail as it is; a value stands in two braces, as ")] if shown else []
    row = {"name": "Ana", "First Name": "Ana", "1. Name": "Ana"}
    assert advised(source + STOP, row, data={"city": "Bern"}) == wanted
    assert advised(STOP, row, subject=source, data={"city": "Bern"}) == wanted


def test_a_message_that_is_sent_as_it_is_is_looked_at_too() -> None:
    def of(**fields: Any) -> list[str]:
        basis = {"sender": "news", "to": "ana@example.org", "subject": "s", "text": "t"}
        return list(Mailer(SETTINGS).advice(Email(**{**basis, **fields})))

    as_it_is = "stands in the mail as it is: content without data is no template; give data, if only {}"
    by_ses = "'{{amazonSESUnsubscribeUrl}}' stands in the mail as it is: SES fills it in only for a contact_list"
    assert of() == []
    assert of(html=f"<p>{STOP}</p>") == [f"'{{{{ unsubscribe_url }}}}' {as_it_is}"]
    named = "'{{ name }}', '{% if x %}', '{% endif %}'"
    assert of(subject="Hi {{ name }}", html="<p>{% if x %}a{% endif %}</p>") == [f"{named} {as_it_is}"]
    assert of(text="{{amazonSESUnsubscribeUrl}}") == [by_ses]
    assert of(text="{{amazonSESUnsubscribeUrl}}", contact_list="readers") == []
    assert of(html="<img src='a.png'>") == nowhere("'a.png'")
    assert of(html="<p>{{ name }}</p>", data={"name": "Ana"}) == []


def test_files_of_a_template_that_are_not_sent_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    for name in ("subject.txt", "body.html", "body.amp.html", "notes.md", "part.html"):
        (folder / name).write_text("x")
    mailer = Mailer(Settings(templates_dir=tmp_path))
    email = Email(from_="a@example.com", to="ana@example.org", template="t", data={})
    assert list(mailer.advice(email)) == ["body.amp.html of template t is not sent: AMP is not supported"]
    (folder / "body.amp.html").rename(folder / "body.htm")
    assert list(mailer.advice(email)) == ["body.htm of template t is not sent: its parts are subject.txt, body.html, body.txt"]


def test_rows_that_would_all_fail_are_told_before_the_start() -> None:
    why = "the first rows would fail: the template uses 'name', which this row does not have"
    assert advised(f"{{{{ name }}}}<img src='a.png'>{STOP}", {}, {}) == [why]


def test_some_rows_that_would_fail_are_told_with_how_many_and_the_first_reason() -> None:
    why = "1 of the first 2 rows would fail: the template uses 'name', which this row does not have"
    assert advised(f"{{{{ name }}}}{STOP}", {"name": "Ana"}, {}) == [why]
    number = (
        "would fail: the template failed on this row, in line 1 of body.html: it compares a text with a number by >; "
        "for a number, write `|int` or `|float` behind the text"
    )
    points = [{"points": ""}, {"points": "12"}, {"points": "3"}]  # as of a CSV, whose values are texts
    assert advised(f"{{% if points > 10 %}}x{{% endif %}}{STOP}", *points) == [f"the first rows {number}"]
    assert advised(f"{{% if points and points > 10 %}}x{{% endif %}}{STOP}", *points) == [f"2 of the first 3 rows {number}"]
    assert advised(f"{{% if points|int > 10 %}}x{{% endif %}}{STOP}", *points) == []


@pytest.mark.parametrize("word", ["NULL", "None", "nan", "#N/A", "\\N"])
def test_a_word_for_no_value_is_hinted_at_where_it_would_be_printed(word: str) -> None:
    why = f"the value of 'name' is the word {word} in some rows, and is printed as that"
    assert advised(f"{{{{ name }}}}{STOP}", {"name": "Ana"}, {"name": word, "other": word}) == [why]
    assert advised(f"{{{{ name }}}}{STOP}", {"name": "Anna None"}, {"name": None}) == []


def test_sess_own_link_without_a_contact_list_is_hinted_at_where_it_is_no_variable() -> None:
    raw = "{% raw %}{{amazonSESUnsubscribeUrl}}{% endraw %} unsubscribe"
    (hint,) = advised(raw)
    assert hint.startswith("'{{amazonSESUnsubscribeUrl}}' stands in the mail as it is")
    assert advised(raw, contact_list="readers") == []


def test_templates_of_ses_give_no_hint_and_no_error() -> None:
    campaign = Campaign(sender="news", ses_template="welcome")
    assert list(Mailer(SETTINGS).advice(campaign, rows({"a": 1}))) == []


MORE = ("{a", "[[a", "%a", "url(", "url('", "<i style='url(a", "<img srcset='a, ", "<style>@import '", "/*")


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["<img src='", "<a href=", "<!--", "<img ", "*|", "%%", "{{", "cid:", "<a b='", "&", "http://[", *MORE]),
    st.integers(0, 20_000),
)
def test_no_html_keeps_the_hints_waiting(piece: str, count: int) -> None:
    began = time.perf_counter()
    advised("{{ body|safe }}" + STOP, {"body": "." + piece * count})
    assert time.perf_counter() - began < 3
