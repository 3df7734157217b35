"""The syntax of resolv.conf (resolv.conf(5)), without I/O."""

from typing import Final

from wardgate.model.addresses import SENTINEL_IPV4, SENTINEL_IPV6, IpAddress, parse_ip

MAGIC: Final = "# BEGIN Wardgate DNS configuration"
FOREIGN_MAGIC: Final = "# BEGIN Firezone DNS configuration"  # what the published client writes
_COMMENTS: Final = (
    "# Written by the Wardgate client while it runs; the original is beside this file,",
    "# in resolv.conf.before-wardgate, and is put back when the client ends.",
    "# Delete the first line to keep edits that you make here.",
)


def rewritten(original: str, sentinels: tuple[str, ...], search_domain: str | None) -> str:
    """The new content: our name servers, our search domain before the original's, the original's options."""
    domains = ([] if search_domain is None else [search_domain]) + _search_domains(original)
    options = [word for line in _lines(original, "options") for word in line]
    if not any(option.startswith("ndots:") for option in options):
        options.insert(0, "ndots:1")
    lines = [MAGIC, *_COMMENTS, *(f"nameserver {sentinel}" for sentinel in sentinels)]
    if domains:
        lines.append(" ".join(["search", *dict.fromkeys(domains)]))
    lines.append(" ".join(["options", *options]))
    return "\n".join(lines) + "\n"


def name_servers(resolv_conf: str) -> tuple[IpAddress, ...]:
    """The `nameserver` lines that hold a plain address."""
    addresses = (parsed(line[0]) for line in _lines(resolv_conf, "nameserver") if line)
    return tuple(dict.fromkeys(address for address in addresses if address is not None))


def names_a_sentinel(resolv_conf: str) -> bool:
    return any(is_sentinel(server) for server in name_servers(resolv_conf))


def is_sentinel(address: IpAddress) -> bool:
    return address in (SENTINEL_IPV4 if address.version == 4 else SENTINEL_IPV6)


def parsed(text: str) -> IpAddress | None:
    try:
        return parse_ip(text)
    except ValueError:
        return None


def _search_domains(resolv_conf: str) -> list[str]:
    # The last of `search` and `domain` counts.
    lines = [
        line.split() for line in resolv_conf.splitlines() if line.split()[:1] in (["search"], ["domain"])
    ]
    return lines[-1][1:] if lines else []


def _lines(resolv_conf: str, keyword: str) -> list[list[str]]:
    split = (line.split() for line in resolv_conf.splitlines())
    return [words[1:] for words in split if words[:1] == [keyword]]
