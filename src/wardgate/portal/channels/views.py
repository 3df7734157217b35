"""Parts of messages to clients and gateways, built from rows and settings."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from wardgate.model.host_name import ascii_name
from wardgate.portal.account_config import AccountConfig, DohProvider
from wardgate.portal.devices.tables import Device
from wardgate.portal.settings import PortalSettings
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import IceCredentialPair
from wardgate.wire.user_agent import product_version

DOH_URLS: Final[dict[DohProvider, str]] = {
    "google": "https://dns.google/dns-query",
    "quad9": "https://dns.quad9.net/dns-query",
    "cloudflare": "https://cloudflare-dns.com/dns-query",
    "opendns": "https://doh.opendns.com/dns-query",
}


def client_interface(device: Device, config: AccountConfig) -> wire.ClientInterface:
    """Return a client's addresses and the account's DNS settings (protocol §5.4)."""
    dns = config.upstream_dns
    addresses = dns.addresses if dns.type == "custom" else ()
    urls = (DOH_URLS[dns.doh_provider],) if dns.type == "secure" else ()
    return wire.ClientInterface(
        ipv4=IPv4Address(device.ipv4),
        ipv6=IPv6Address(device.ipv6),
        search_domain=None if config.search_domain is None else ascii_name(config.search_domain),
        upstream_do53=tuple(wire.UpstreamDo53(address) for address in addresses),
        upstream_doh=tuple(wire.UpstreamDoh(url) for url in urls),
        upstream_dns=tuple(wire.UpstreamDns("ip_port", _with_dns_port(address)) for address in addresses),
    )


def flow_logs_setting(settings: PortalSettings, user_agent: str) -> wire.FlowLogs:
    """Return where and how often to report flows; an interval of 0 turns reporting off (protocol §7.2), as where the
    peer could not reach the address: ours upload to any, published ones to `https` on port 443 only.
    """
    can_upload = settings.are_flow_logs_reachable or product_version(user_agent) is not None
    return wire.FlowLogs(
        api_url=f"{settings.rest_url}/",
        upload_interval_secs=settings.flow_log_upload_interval_s if can_upload else 0,
        upload_batch_size=settings.flow_log_batch_size,
    )


def ice_credentials(pair: IceCredentialPair) -> tuple[wire.IceCredentials, wire.IceCredentials]:
    """Return the client's and the gateway's half; the client initiates."""
    return (
        wire.IceCredentials(pair.initiator_username, pair.initiator_password),
        wire.IceCredentials(pair.receiver_username, pair.receiver_password),
    )


def _with_dns_port(address: str) -> str:
    return f"[{address}]:53" if ip_address(address).version == 6 else f"{address}:53"
