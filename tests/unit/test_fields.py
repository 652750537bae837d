"""What the constructors take: the same as the models, by names that a wrong one leads to."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from mailer import Attachment, Campaign, Email, InvalidEmail, Lane, ListUnsubscribe, Mode, Sender
from mailer.message.attachment import AttachmentFields
from mailer.message.checks import Model
from mailer.message.email import CampaignFields, EmailFields
from mailer.message.sender import ListUnsubscribeFields, SenderFields

CONSTRUCTORS: list[tuple[type[Model], Any]] = [
    (Email, EmailFields),
    (Campaign, CampaignFields),
    (Attachment, AttachmentFields),
    (Sender, SenderFields),
    (ListUnsubscribe, ListUnsubscribeFields),
]
WHOLE: dict[type[Model], dict[str, Any]] = {
    Email: {"from_": "a@example.com", "to": "b@example.com", "subject": "s", "text": "t"},
    Campaign: {"from_": "a@example.com", "subject": "s", "text": "t"},
    Attachment: {"name": "a.txt", "content": b"x"},
    Sender: {"from_": "a@example.com"},
    ListUnsubscribe: {"mailto": "a@example.com"},
}


@pytest.mark.parametrize(("model", "fields"), CONSTRUCTORS)
def test_a_constructor_takes_what_its_model_has(model: type[Model], fields: Any) -> None:
    hints = typing.get_type_hints(fields, include_extras=True)
    assert hints.keys() == model.model_fields.keys()
    needed = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.Required}
    assert needed == {name for name, field in model.model_fields.items() if field.is_required()}


@pytest.mark.parametrize(("model", "fields"), CONSTRUCTORS)
def test_a_field_that_may_be_none_may_be_given_as_none(model: type[Model], fields: Any) -> None:
    hints = typing.get_type_hints(fields)
    taken = {name for name, hint in hints.items() if type(None) in typing.get_args(hint)}
    given = {name: None for name in taken if name not in WHOLE[model]}
    assert model(**WHOLE[model], **given)
    for name in hints.keys() - taken:
        with pytest.raises(InvalidEmail, match=f"`{name.rstrip('_')}`"):
            model(**{**WHOLE[model], name: None})


def test_the_words_for_lane_and_mode_are_those_that_there_are() -> None:
    hints = typing.get_type_hints(EmailFields)
    for name, kind in (("lane", Lane), ("mode", Mode)):
        words = {word for one in typing.get_args(hints[name]) for word in typing.get_args(one)}
        assert words == set(kind)


@pytest.mark.parametrize(
    ("model", "name", "text"),
    [
        (Attachment, "filename", "Attachment: there is no `filename`; use `name`"),
        (Attachment, "mime_type", "Attachment: there is no `mime_type`; use `content_type`"),
        (Attachment, "contentId", "Attachment: there is no `contentId`; use `content_id`"),
        (Attachment, "data", "Attachment: there is no `data`; use `content`"),
        (Email, "from_email", "Email: there is no `from_email`; use `from`, in Python `from_`"),
        (Email, "recipients", "Email: there is no `recipients`; use `to`"),
        (Email, "body", "Email: there is no `body`; use `text`"),
        (Email, "htmlBody", "Email: there is no `htmlBody`; use `html`"),
        (Email, "replyto", "Email: there is no `replyto`; use `reply_to`"),
        (Email, "context", "Email: there is no `context`; use `data`"),
        (Campaign, "max_bounce", "Campaign: there is no `max_bounce`; use `max_bounce_rate`"),
        (Sender, "form", "Sender: there is no `form`; use `from`, in Python `from_`"),
        (ListUnsubscribe, "colour", "ListUnsubscribe: there is no `colour`; there are: url, mailto"),
        (ListUnsubscribe, "a\nb", "ListUnsubscribe: there is no 'a\\nb'; there are: url, mailto"),
    ],
)
def test_a_wrong_name_leads_to_the_right_one(model: type[Model], name: str, text: str) -> None:
    with pytest.raises(InvalidEmail) as caught:
        model(**{**WHOLE[model], name: "x"})
    assert str(caught.value) == text


def test_a_wrong_name_inside_says_where() -> None:
    with pytest.raises(InvalidEmail, match=r"^Email: `attachments`: there is no `filename`; use `name`$"):
        Email(**WHOLE[Email], attachments=[{"filename": "a.txt", "content": b"x"}])
    with pytest.raises(InvalidEmail, match=r"^Sender: `list_unsubscribe`: there is no `uri`; use `url`$"):
        Sender(**WHOLE[Sender], list_unsubscribe={"uri": "https://example.com/{token}"})
