"""The AWS account: whose credentials, what SES lets it do, and what it lets be asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

from ..ledger import Route
from ..ses.gateway import Gateway
from ..ses.questions import AccountState
from .aws import Unanswered, Ways, asked
from .finding import Finding, because, ok, warning, wrong

NEARLY = 0.9  # of the 24 h quota
SKEW_S, REFUSED_S = (
    60.0,
    300.0,
)  # between the clocks: worth a word; from here on AWS refuses signatures (five minutes, IAM user guide)
SOURCES = {
    "env": "environment variables",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "AWS's configuration file",
    "assume-role": "a role that is assumed",
    "assume-role-with-web-identity": "a role by web identity",
    "sso": "IAM Identity Center",
    "login": "a console sign-in",
    "custom-process": "a credential process",
    "container-role": "the container's role",
    "iam-role": "the instance's role",
}
_SUPPRESSED = {"BOUNCE": "bounces", "COMPLAINT": "complains"}  # SES's reasons to put somebody on its list
_NO_TEMPLATE = "mailer-doctor"  # asked for to see whether asking is allowed; nobody has one of that name


async def credentials(ways: Ways, route: Route, whose: str) -> Finding:
    name = f"aws credentials{whose}"
    try:
        gateway = (await ways.get(route)).gateway
        source = await asked(gateway.credential_source)
    except Unanswered as error:
        return wrong(name, error.refusal.said, error.refusal.do)
    number = await gateway.known_account()
    account = f"account {number}" if number else "account number not known: STS was not asked, or not reached"
    return ok(name, f"from {SOURCES.get(source, source)}; {account}; region {gateway.region}")


async def account(ways: Ways, route: Route, whose: str) -> list[Finding]:
    try:
        known, gateway = await ways.account(route), (await ways.get(route)).gateway
    except Unanswered as error:
        return [wrong(f"ses account{whose}", error.refusal.said, error.refusal.do)]
    return [ok(f"ses account{whose}", f"{gateway.endpoint_url} answers"), *standing(known, whose)]


def standing(known: AccountState, whose: str) -> Iterator[Finding]:
    yield _access(f"ses access{whose}", known)
    yield _sending(f"ses sending{whose}", known)
    yield _quota(f"ses quota{whose}", known)
    if left := _SUPPRESSED.keys() - set(known.suppressed_reasons):
        what = " or ".join(word for reason, word in _SUPPRESSED.items() if reason in left)
        do = f"aws sesv2 put-account-suppression-attributes --suppressed-reasons {' '.join(_SUPPRESSED)} --region {known.region}"
        yield warning(
            f"ses suppression{whose}",
            f"who {what} does not come on SES's list by itself; workers write it there, for which their role needs "
            "ses:PutSuppressedDestination",
            f"let SES do it: {do}",
        )


def _access(name: str, known: AccountState) -> Finding:
    if known.production:
        return ok(name, "production: it may send to anyone")
    found = "sandbox: only verified addresses and …@simulator.amazonses.com can be written to"
    return warning(
        name,
        found,
        f"for more, request production access: https://console.aws.amazon.com/ses/home?region={known.region}#/account",
    )


def _sending(name: str, known: AccountState) -> Finding:
    support = "answer the case in the AWS Support Center: https://console.aws.amazon.com/support/home"
    if known.enforcement == "SHUTDOWN":
        return wrong(name, "AWS has shut down this account's sending", support)
    if not known.sending_enabled:
        do = f"aws sesv2 put-account-sending-attributes --sending-enabled --region {known.region}"
        return wrong(name, "sending is paused for this account", do)
    if known.enforcement != "HEALTHY":
        return warning(name, f"enabled; the account's standing is {known.enforcement}, and AWS may pause it", support)
    return ok(name, "enabled; the account is healthy")


def _quota(name: str, known: AccountState) -> Finding:
    rate = f"{known.max_send_rate:,g} recipients/s"
    if known.max_24h < 0:
        return ok(name, f"{rate}, no limit in 24 h")
    text = f"{rate}; {known.sent_24h:,.0f} of {known.max_24h:,.0f} recipients of 24 h used"
    more = f"for more: https://console.aws.amazon.com/servicequotas/home?region={known.region}#!/services/ses/quotas"
    if known.sent_24h >= known.max_24h:
        return wrong(name, f"{text}: it is used up", f"wait until some of it falls out of the 24 h; {more}")
    if known.sent_24h >= known.max_24h * NEARLY:
        return warning(name, f"{text}: it is nearly used up", more)
    return ok(name, text)


async def clock(ways: Ways, route: Route, whose: str) -> Finding:
    name = f"ses clock{whose}"
    gateway = (await ways.get(route)).gateway
    said = await asked(gateway.clock)
    if said is None:
        return ok(name, "SES's answer does not tell the time")
    apart_s = (datetime.now(UTC) - said).total_seconds()
    found = f"this machine's is {abs(apart_s):,.0f} s {'before' if apart_s > 0 else 'behind'} it"
    if abs(apart_s) > REFUSED_S:
        return wrong(name, f"{found}, and AWS refuses signatures", "let this machine take its time from NTP")
    return (
        warning(name, found, "let this machine take its time from NTP")
        if abs(apart_s) > SKEW_S
        else ok(name, "as this machine's")
    )


async def permissions(ways: Ways, route: Route, whose: str) -> list[Finding]:
    """Those that can be asked without doing anything. What senders use is asked with them; sending itself is not tried."""
    gateway = (await ways.get(route)).gateway
    found = [await _identities(gateway, f"ses identities{whose}")]
    name, lacking = f"ses permissions{whose}", list[str]()
    try:
        await asked(gateway.suppressed_page, "ses:ListSuppressedDestinations")
    except Unanswered as error:
        found.append(_may_not(name, "ses:ListSuppressedDestinations", error))
    try:
        await asked(partial(gateway.template, _NO_TEMPLATE))
    except Unanswered as error:
        if error.forbidden:
            lacking.append(
                "ses:GetEmailTemplate, without which the variables of templates that SES stores are not checked before a call"
            )
    if lacking:
        found.append(warning(name, f"not allowed: {'; '.join(lacking)}", "allow it to the role, or do without"))
    if len(found) == 1:
        found.append(ok(name, "reading is allowed; sending cannot be tried without sending"))
    return found


async def _identities(gateway: Gateway, name: str) -> Finding:
    try:
        page, more = await asked(gateway.identities, "ses:ListEmailIdentities")
    except Unanswered as error:
        return _may_not(name, "ses:ListEmailIdentities", error)
    verified = sum(one.verified for one in page)
    if not verified and not more:
        do = f"aws sesv2 create-email-identity --region {gateway.region} --email-identity your-domain.com"
        return wrong(name, "no address and no domain is verified, so nothing can be sent", do)
    return ok(name, f"{verified:,}{' or more' if more else ''} verified")


def _may_not(name: str, action: str, error: Unanswered) -> Finding:
    said, do = error.refusal.said, error.refusal.do
    return wrong(name, f"{action}: {said}", do, cause=because(said, do))
