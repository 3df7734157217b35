"""What the parts of one portal process share: handed to REST, web and channels when they are built."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from wardgate.portal.environment import Environment
from wardgate.portal.geography import Geography
from wardgate.portal.http.rate_limit import TokenBuckets
from wardgate.portal.keys import Keys
from wardgate.portal.metrics import Metrics
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.hashing import Hashing
from wardgate.portal.sign_in.oidc.conversation import Conversation
from wardgate.portal.sign_in.oidc.trials import Trials
from wardgate.portal.sign_in.second_factor.tries import Places
from wardgate.portal.snapshot.accounts import Accounts
from wardgate.portal.spans import Spans
from wardgate.portal.store import Feed, Store

WELCOMES: Final = 3
WELCOMES_PER_S: Final = 1 / 600


@dataclass(frozen=True, slots=True)
class Services:
    """One portal process.

    Attributes:
        conversation: with identity providers.
        trials: trial sign-ins with them that are on their way.
        hashing: of passwords and codes, few at a time.
        counters: events counted since the start, by name; exported, never read by the program.
        metrics: what else is exported.
        spans: where what was done is told, if anybody collects it.
        geography: where addresses are.
        second_factor_places: how often codes of second factors are guessed from one place, on whatever page.
        welcomes: how often an administrator may have a welcome sent, by the person's id.
    """

    settings: PortalSettings
    environment: Environment
    keys: Keys
    store: Store
    feed: Feed
    accounts: Accounts
    conversation: Conversation
    trials: Trials = field(default_factory=Trials)
    hashing: Hashing = field(default_factory=Hashing)
    counters: "Counter[str]" = field(default_factory=Counter)
    metrics: Metrics = field(default_factory=Metrics)
    spans: Spans = field(default_factory=Spans)
    geography: Geography = field(default_factory=Geography)
    second_factor_places: Places = field(default_factory=Places)
    welcomes: TokenBuckets = field(
        default_factory=lambda: TokenBuckets(capacity=WELCOMES, refill_per_s=WELCOMES_PER_S)
    )
