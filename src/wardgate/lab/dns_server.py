"""An authoritative name server of the lab, over UDP and TCP: records from `name[/TYPE]=data` arguments.

Names outside its zone get NXDOMAIN. It plays both the private zone behind a gateway and "the public internet".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_TTL_S = 30


class Zone:
    """Records by lower-case name and type."""

    def __init__(self, records: list[str]) -> None:
        self._data: dict[str, dict[dns.rdatatype.RdataType, list[str]]] = {}
        for record in records:
            owner, _, data = record.partition("=")
            name, _, kind = owner.partition("/")
            rdtype = dns.rdatatype.from_text(kind) if kind else _type_of(data)
            self._data.setdefault(name.lower().rstrip("."), {}).setdefault(rdtype, []).append(data)

    def answer(self, wire: bytes, *, is_datagram: bool = False) -> bytes:
        """The response to one query, cut down to what the asker takes in a datagram (RFC 1035 §4.2.1, RFC 6891 §6.2.5).

        Raises:
            dns.exception.DNSException: it is no query.
        """
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        question = query.question[0]
        known = self._data.get(question.name.to_text(omit_final_dot=True).lower())
        if known is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response.to_wire()
        chosen = known.get(question.rdtype)
        if chosen:
            response.answer.append(dns.rrset.from_text(question.name, _TTL_S, "IN", question.rdtype, *chosen))
        try:
            return response.to_wire(max_size=max(512, query.payload) if is_datagram else 0xFFFF)
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()


def _type_of(address: str) -> dns.rdatatype.RdataType:
    return dns.rdatatype.A if ipaddress.ip_address(address).version == 4 else dns.rdatatype.AAAA


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._zone.answer(data, is_datagram=True), addr)


async def _serve(zone: Zone, address: str) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: _Udp(zone), local_addr=(address, 53))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            asyncio.IncompleteReadError
        ):  # a connection without a query asks whether we listen
            size = int.from_bytes(await reader.readexactly(2), "big")
            wire = zone.answer(await reader.readexactly(size))
            writer.write(len(wire).to_bytes(2, "big") + wire)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, address, 53)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("records", nargs="*", metavar="name[/TYPE]=data")
    options = parser.parse_args()
    asyncio.run(_serve(Zone(options.records), options.listen))


if __name__ == "__main__":
    main()
