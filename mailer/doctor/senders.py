"""Each sender: whether it may send, whether SES tells what became of its mail, and whether it may write to somebody."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from redis.exceptions import RedisError

from ..errors import MailerError, SenderNotVerified
from ..identities.sandbox import unverified
from ..identities.sender import Admitted, admit
from ..intake.spec_builder import SpecBuilder
from ..ledger import Ledger, Route, Spec
from ..ledger.holds import Holds
from ..message.address import bare
from ..message.email import Email
from ..settings import Settings
from ..suppression.check import why_suppressed
from ..suppression.lists import Found, SesEntry, SuppressionLists
from .aws import Asked, Unanswered, Ways, asked
from .finding import Finding, State, ok, told, warning, wrong

TYPES = frozenset(
    ("SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "RENDERING_FAILURE", "DELIVERY_DELAY", "SUBSCRIPTION")
)  # of events, that change what is known of a recipient
READ = frozenset(("SnsDestination", "EventBridgeDestination"))  # what can bring them to a worker
PAGE = "docs/events.md"


async def sender(settings: Settings, ledger: Ledger, ways: Ways, name: str, from_: str | None) -> list[Finding]:
    """One of mailer.toml by its name, or `from_`, a From address of its own. The gate that workers have says whether it may."""
    check = f"sender {name}"
    try:
        whose = None if from_ else name
        email = Email(to="success@simulator.amazonses.com", subject="-", text="-", from_=from_ or None, sender=whose)
        spec, _ = SpecBuilder(settings).message(email)
        ses_account = await ways.get(spec.route)
        admitted = await admit(Asked(ses_account.gateway), spec)
    except SenderNotVerified as error:
        found = f"{error.fields['identity']} is not verified in SES (region {error.fields['region']})"
        return [wrong(check, found, f"verify it or its domain: {error.fields['command']}")]
    except MailerError as error:
        return [told(check, error)]
    assert admitted is not None
    own = _sender(check, spec, admitted, ses_account.gateway.region)
    holds, why = Holds(ledger), ""
    with suppress(RedisError, OSError):  # another check says it
        why = await holds.why(holds.sender(ses_account.account, spec))
    if own.state is State.OK and why:
        own = wrong(check, why.removeprefix("waiting: "), "what it sends waits, and goes on by itself when SES takes it again")
    return [own, await _events(ways, spec.route, name, admitted)]


def _sender(check: str, spec: Spec, admitted: Admitted, region: str) -> Finding:
    state = admitted.set_state
    if state is not None and not state.sending_enabled:
        do = (
            "aws sesv2 put-configuration-set-sending-options --sending-enabled "
            f"--configuration-set-name {admitted.configuration_set} --region {region}"
        )
        return wrong(check, f"sending is paused for its configuration set {admitted.configuration_set}", do)
    address = bare(spec.from_address)
    verified = f"{address} is verified" if spec.identity_arn is None else f"{address} sends by {spec.identity_arn}"
    uses = f"configuration set {admitted.configuration_set}" if admitted.configuration_set else "no configuration set"
    return ok(check, f"{verified}; {uses}; region {region}")


async def _events(ways: Ways, route: Route, name: str, admitted: Admitted) -> Finding:
    check, set_name = f"events of {name}", admitted.configuration_set
    if set_name is None:
        found = "it has no configuration set, so SES does not report what becomes of its mail"
        return warning(check, found, f"set configuration_set, and give that set an event destination ({PAGE})")
    gateway = (await ways.get(route)).gateway
    try:
        there = await asked(partial(gateway.event_destinations, set_name), "ses:GetConfigurationSetEventDestinations")
    except Unanswered as error:
        do = f"see by hand that it has an event destination with {_words(TYPES)}"
        if error.forbidden:
            do = f"allow ses:GetConfigurationSetEventDestinations to the role, or {do}"
        return warning(check, f"of the set {set_name} it is not known: {error.refusal.said}", do)
    used = [one for one in there if one.enabled and one.kinds & READ]
    missing = TYPES.difference(*(one.types for one in used))
    do = f"add them to an enabled destination of SNS or EventBridge ({PAGE})"
    if not used:
        return warning(check, f"the set {set_name} has no enabled event destination that goes to SNS or EventBridge", do)
    if missing:
        return warning(check, f"the set {set_name} does not report {_words(missing)}", do)
    return ok(check, f"the set {set_name} reports all that is read, by {', '.join(one.name for one in used)}")


def _words(types: frozenset[str]) -> str:
    return ", ".join(sorted(types))


async def sandbox(ways: Ways, route: Route, to: str, whose: str) -> Finding:
    """Whether this account may write to that address."""
    check = f"recipient{whose}"
    if (await ways.account(route)).production:
        return ok(check, f"{to} may be written to: the account is out of the sandbox")
    refused = await unverified(Asked((await ways.get(route)).gateway), [to])
    if not refused:
        return ok(check, f"{to} may be written to from the sandbox")
    found, _, do = refused[to].partition(": ")
    return wrong(check, found, do)


async def suppressed(ledger: Ledger, ways: Ways, route: Route, to: str, streams: list[str], whose: str) -> list[Finding]:
    """Whether the address is on our own list, or on the one of SES, which is asked itself."""
    check = f"suppression of {to}{whose}"
    own = (await SuppressionLists(ledger).check([to], account=None)).hits.get(0, Found((), ()))
    for stream in streams:
        if why := why_suppressed(own, frozenset(), stream):
            return [wrong(check, why, f"mailer suppression remove {to}" + (f" --stream {stream}" if stream else ""))]
    return [await _on_ses_list(ways, route, to, check)]


async def _on_ses_list(ways: Ways, route: Route, to: str, check: str) -> Finding:
    reasons = frozenset((await ways.account(route)).suppressed_reasons)
    gateway, entries = (await ways.get(route)).gateway, list[SesEntry]()
    try:
        for spelling in dict.fromkeys((to, to.lower())):
            if entry := await asked(partial(gateway.suppressed, spelling), "ses:GetSuppressedDestination"):
                entries.append(SesEntry(spelling, *entry))
    except Unanswered as error:
        found = f"not on our own list; SES's was not asked: {error.refusal.said}"
        return warning(check, found, error.refusal.do or "try again in a while")
    if reasons and (why := why_suppressed(Found((), entries), reasons, "")):
        return wrong(check, why, f"mailer suppression remove {to}")
    return ok(check, "neither on our own list nor, for a reason that holds, on SES's")
