"""Rules of a resource's address and filters (portal-domain §3.10, rest-api §8.11), each with the message that
names it."""

import itertools
import re
from typing import Any, Final

from wardgate.model.addresses import EVERYWHERE, RESERVED, IpNetwork, overlap, parse_ip, parse_network
from wardgate.model.filters import PortRange
from wardgate.model.host_name import ascii_name

_PORT: Final = re.compile(r"[^:]+:[0-9]+|.*\]:[0-9]+")
_LABEL: Final = re.compile(r"[\w*?](?:[\w*?-]*[\w*?])?")
_PUBLIC_TLDS: Final = frozenset(
    {"com", "org", "net", "edu", "gov", "mil", "biz", "info", "name", "mobi", "pro"}
)
_LOOPBACK: Final = (parse_network("127.0.0.0/8"), parse_network("::1/128"))
_UNSPECIFIED: Final = tuple(network.network_address for network in EVERYWHERE)

MAX_RANGES_A_FILTER: Final = 1000  # ours
MAX_FILTERS: Final = 100  # ours
PROTOCOLS: Final = ("tcp", "udp", "icmp")


def check_address(type_: str, text: str) -> tuple[str, list[str]]:
    """Return the normalised address and what is wrong with it (then the address is as given)."""
    if _PORT.fullmatch(text):
        return text, ["cannot contain a port number"]
    if text.count("[") != text.count("]"):
        return text, ["has mismatched brackets"]
    match type_:
        case "cidr" | "ip":
            return _check_network(type_, text.strip("[]") if text.startswith("[") else text)
        case _:
            return _check_name(text)


def check_filters(given: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Return the filters to store, and what is wrong with each (None if nothing is)."""
    stored: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for one in given:
        wrong: dict[str, Any] = {}
        protocol = one.get("protocol")
        if protocol is None:
            wrong["protocol"] = ["can't be blank"]
        elif protocol not in PROTOCOLS:
            wrong["protocol"] = ["is invalid"]
        ports, messages = _check_ports([str(port) for port in one.get("ports") or []])
        if protocol == "icmp" and ports:
            messages = ["must be empty for icmp"]
        if messages:
            wrong["ports"] = messages
        errors.append(wrong)
        stored.append({"protocol": protocol, "ports": ports})
    return stored, errors if any(errors) else None


def _check_ports(texts: list[str]) -> tuple[list[str], list[str]]:
    if len(texts) > MAX_RANGES_A_FILTER:
        return [], [f"should have at most {MAX_RANGES_A_FILTER} item(s)"]
    ranges: list[PortRange] = []
    for text in texts:
        numbers = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", text)
        if numbers is None:
            return [], ["bad format"]
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if not (1 <= first <= 65535 and 1 <= last <= 65535):
            return [], ["must be between 1 and 65535"]
        if first > last:
            return [], ["lower value cannot be higher than upper value"]
        ranges.append(PortRange(first, last))
    ordered = sorted(ranges)
    if any(upper.first <= lower.last for lower, upper in itertools.pairwise(ordered)):
        return [], ["port ranges must not overlap"]
    return [str(one) for one in ranges], []


def _check_network(type_: str, text: str) -> tuple[str, list[str]]:
    try:
        if type_ == "ip":
            address = parse_ip(text)
            network, normal = parse_network(f"{address}/{address.max_prefixlen}"), str(address)
        else:
            network = parse_network(text)
            normal = str(network)
    except ValueError:
        return text, ["is not a valid IP address" if type_ == "ip" else "is not a valid CIDR range"]
    return normal, _network_errors(network)


def _network_errors(network: IpNetwork) -> list[str]:
    errors: list[str] = []
    if any(address in network for address in _UNSPECIFIED if address.version == network.version):
        errors.append("please use the Internet Resource for full-tunnel traffic")
    if any(overlap(network, one) for one in _LOOPBACK):
        errors.append("cannot contain loopback addresses")
    errors += [f"cannot be in the CIDR {one}" for one in RESERVED if overlap(network, one)]
    return errors


def _check_name(text: str) -> tuple[str, list[str]]:
    if len(text) > 253:
        return text, ["should be at most 253 character(s)"]
    try:
        parse_ip(text.partition("/")[0].strip("[]"))
    except ValueError:
        pass
    else:
        return text, ["please use an IP or CIDR Resource for IP addresses"]
    try:
        labels = ascii_name(text).split(".")
    except ValueError as error:
        return text, ["is not a valid hostname" if "wildcard" not in str(error) else str(error)]
    if not all(_LABEL.fullmatch(label) and "_" not in label for label in labels):
        return text, ["is not a valid hostname"]
    if any(len(label) > 63 for label in labels):
        return text, ["has a label of more than 63 characters"]
    tld = labels[-1]
    if "*" in tld or "?" in tld:
        return text, ["TLD cannot contain wildcards"]
    if tld.lower() == "localhost":
        return text, ["localhost cannot be used, please add a DNS alias to /etc/hosts instead"]
    if any("**" in label and label != "**" for label in labels):
        return text, ["`**` must be a whole label"]
    front = labels[:-1]
    is_public = tld.lower() in _PUBLIC_TLDS or (len(tld) == 2 and tld.isascii() and tld.isalpha())
    if is_public and all(not label.strip("*?") for label in front):
        return text, [
            "domain for a top-level domain cannot be only wildcards" if front else "is a top-level domain"
        ]
    return text, []
