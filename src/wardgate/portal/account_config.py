"""What administrators decided about their account, as the column `accounts.config` holds it (portal-domain §3.1).

The column is JSON, and what is not in it has its default. It is read here and nowhere else, and written by
`within`, which keeps what a newer release may have put there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, cast

DnsType = Literal["system", "secure", "custom"]
SecondFactorFor = Literal["nobody", "admins", "everybody"]
DohProvider = Literal["google", "opendns", "cloudflare", "quad9"]

DNS_TYPES: Final[tuple[DnsType, ...]] = ("system", "secure", "custom")
SECOND_FACTOR_FOR: Final[tuple[SecondFactorFor, ...]] = ("nobody", "admins", "everybody")
DOH_PROVIDERS: Final[tuple[DohProvider, ...]] = ("google", "opendns", "cloudflare", "quad9")


@dataclass(frozen=True, slots=True)
class UpstreamDns:
    """Who answers clients' questions that concern no resource.

    Attributes:
        doh_provider: used when the type is `secure`.
        addresses: used when it is `custom`; they stay when the type changes, so that changing it back loses nothing.
    """

    type: DnsType = "system"
    doh_provider: DohProvider = "google"
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutdatedGatewayLetter:
    """The weekly letter about gateways to be upgraded: whether it is wanted, and when the last one went."""

    is_enabled: bool = True
    last_notified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """One account's settings.

    Attributes:
        second_factor_for: who must have a second factor in order to sign in without an identity provider; whoever has
            one is asked for it in any case.
    """

    search_domain: str | None = None
    upstream_dns: UpstreamDns = UpstreamDns()
    outdated_gateway_letter: OutdatedGatewayLetter = OutdatedGatewayLetter()
    second_factor_for: SecondFactorFor = "nobody"

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> "AccountConfig":
        """Read the column. It was checked when it was written."""
        dns = stored.get("clients_upstream_dns") or {}
        letter = (stored.get("notifications") or {}).get("outdated_gateway") or {}
        last = letter.get("last_notified")
        return cls(
            search_domain=stored.get("search_domain"),
            upstream_dns=UpstreamDns(
                cast("DnsType", dns.get("type", "system")),
                cast("DohProvider", dns.get("doh_provider", "google")),
                tuple(entry["address"] for entry in dns.get("addresses", ())),
            ),
            outdated_gateway_letter=OutdatedGatewayLetter(
                letter.get("enabled", True), None if last is None else datetime.fromisoformat(last)
            ),
            second_factor_for=cast("SecondFactorFor", stored.get("second_factor_for", "nobody")),
        )

    def within(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the column's next value: these settings, beside whatever else is in it."""
        dns, letter = self.upstream_dns, self.outdated_gateway_letter
        last = letter.last_notified_at
        return {
            **stored,
            "search_domain": self.search_domain,
            "clients_upstream_dns": {
                "type": dns.type,
                "doh_provider": dns.doh_provider,
                "addresses": [{"address": address} for address in dns.addresses],
            },
            "notifications": {
                **(stored.get("notifications") or {}),
                "outdated_gateway": {
                    "enabled": letter.is_enabled,
                    "last_notified": None if last is None else last.isoformat(),
                },
            },
            "second_factor_for": self.second_factor_for,
        }
