"""The trial sign-in that a provider passes before it can be used (identity §11).

Somebody who may change providers asks for one and gets an address for a browser; the browser signs in at the provider;
the callback brings the proof.

A trial may try new values of a stored provider. They are stored when it succeeds, so a client secret is replaced
without a moment in which nobody can sign in.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from wardgate.portal.edits import Given
from wardgate.portal.outcomes import Invalid
from wardgate.portal.services import Services
from wardgate.portal.sign_in import provider_rules
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure
from wardgate.portal.sign_in.oidc.relying_party import AnyProvider, EmailTrust, RelyingParty
from wardgate.portal.sign_in.oidc.trials import LIFETIME_S, Trial

TRIAL_PATH: Final = "/auth/oidc/trial"
PROMPT: Final = "login"
_NAME_BYTES: Final = 32


def ask_for_trial(
    services: Services,
    account_id: UUID,
    kind: provider_rules.ProviderKind,
    provider: AnyProvider,
    given: Given,
    *,
    subject: Mapping[str, Any],
) -> str:
    """Return the address at which a browser begins the trial, within five minutes.

    Args:
        given: values of the provider's client to try instead of those that are stored.

    Raises:
        Invalid: a value is wrong or missing.
    """
    reachable = services.settings.reachable_addresses
    tried = {name: value for name, value in given.items() if name in kind.connection}
    try:
        party = RelyingParty.of(provider_rules.candidate_of(kind, provider, tried, reachable=reachable))
    except ValueError:
        raise Invalid({"client_id": ["is needed, and so is the client secret"]}) from None
    name = services.environment.rng.randbytes(_NAME_BYTES).hex()
    expires_at = services.environment.clock.monotonic() + LIFETIME_S
    services.trials.add(
        name, Trial(account_id, kind.name, provider.id, party, tried, dict(subject), expires_at)
    )
    return f"{services.settings.web_url}{TRIAL_PATH}/{name}"


async def begin_trial(services: Services, trial: Trial) -> str:
    """Return where the browser has to go.

    Raises:
        OidcFailed: the provider cannot be asked.
    """
    party = trial.party
    if trial.kind == provider_rules.OIDC.name and not trial.given.get("issuer"):
        # The trial proves who issues the tokens; until then the document's word is as good as its address.
        party = replace(party, issuer=await services.conversation.issuer_of(party))
    attempt, url = await services.conversation.begin(party, prompt=PROMPT)
    services.trials.add(attempt.state, replace(trial, party=party, attempt=attempt))
    return url


async def complete_trial(services: Services, trial: Trial, callback: Mapping[str, str]) -> AnyProvider:
    """Store that the provider works, with the values that were tried.

    Raises:
        OidcFailed: the trial failed.
        Refused: the provider is gone, or was changed meanwhile.
    """
    if trial.attempt is None:
        raise OidcFailed(OidcFailure.REFUSED, "the browser was not at the provider")
    profile = await services.conversation.complete(trial.party, trial.attempt, callback)
    if trial.party.email_trust is EmailTrust.CLAIM and not profile.is_email_verified:
        raise OidcFailed(OidcFailure.EMAIL_UNVERIFIED)
    kind, given = provider_rules.KINDS[trial.kind], trial.given
    if kind is provider_rules.OIDC:
        given = {**given, "issuer": trial.party.issuer}
    async with services.store.writing(dict(trial.subject)) as transaction:
        tables = transaction.of(trial.account_id)
        before = await provider_rules.load_provider(tables, kind, trial.provider_id)
        verified: AnyProvider = await provider_rules.store_verified(
            tables,
            kind,
            before,
            given,
            tried=trial.party,
            reachable=services.settings.reachable_addresses,
        )
        return verified
