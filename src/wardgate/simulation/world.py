"""One simulated installation: its portal (`administration`), and peers that come, go and use it.

Each packet that leaves a gateway towards a resource is compared with the `Model` at once: a packet that no policy
grants is a `Violation`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import dns.message

from wardgate.connect.flow_logging import KeptFlow
from wardgate.model.addresses import IpAddress
from wardgate.portal.credentials import issue
from wardgate.simulation.administration import Administration
from wardgate.simulation.model import Violation
from wardgate.simulation.network import Nat, NatKind, SimNetwork
from wardgate.simulation.peers import Cable, Peer, ProcessContext, SimClient, SimGateway, SimRelay
from wardgate.simulation.pool_part import AUTHORIZED
from wardgate.simulation.probes import Probe, Refused, parse

_OFFER_S: Final = 1.0  # longer than an offered grant takes to its gateway


class World(Administration):
    """Build with `open`. All methods run on a virtual-time loop."""

    def __init__(self, seed: int) -> None:
        super().__init__(random.Random(seed))  # noqa: S311  # replays by seed
        self.network = SimNetwork(self.rng)
        self.clients: dict[str, SimClient] = {}
        self.actor_of: dict[str, str] = {}  # client → actor
        self.gateways: dict[str, SimGateway] = {}
        self.site_of: dict[str, UUID] = {}  # gateway → site
        self.relays: dict[str, SimRelay] = {}
        self._waiting: dict[int, _Expected] = {}
        self._identity = 0
        self._secrets: dict[str, str] = {}  # by peer
        self.violation: Violation | None = None
        self._context = ProcessContext(
            self.network, self._app, self._unix_at_zero, self._resolve_privately, self.rng, self._links
        )

    async def close(self) -> None:
        """Kill every peer, stop the portal, drop the database."""
        for peer in self.peers():
            peer.kill()
        for client in self.clients.values():
            self._count_paths(client)
        self.counts.lost_datagrams = self.network.lost
        await self.stop_portal()
        await self._store.close()

    def peers(self) -> list[Peer]:
        return [*self.clients.values(), *self.gateways.values(), *self.relays.values()]

    def public_ips_of(self, actors: frozenset[str]) -> list[str]:
        return [
            client.cable.public_ip for name, client in self.clients.items() if self.actor_of[name] in actors
        ]

    def address_of(self, client: str) -> str:
        """Return the tunnel address of a client that is connected."""
        configuration = self.clients[client].configuration
        assert configuration is not None
        return str(configuration.tun.ipv4)

    async def wrong_records(self) -> list[str]:
        """What is enforced without a stored grant, what is stored though nothing grants it, and what a gateway
        was told to end though it is stored: nobody's access rests on memory alone, or is taken with another's.
        """
        async with self._store.reading() as transaction:
            tables = transaction.of(self._account_id)
            stored = [
                row
                for row in await tables.authorizations.load_all()
                if row.expires_at > self._environment.clock.now()
            ]
            devices = {row.id: row for row in await tables.devices.load_all()}
        self.counts.checked_grants += len(stored)
        actors = {id_: name for name, id_ in self._actors.items()}
        resources = {self.model.id_of(name): name for name in (*self.model.resources, *self.model.pools)}
        wrong = []
        for row in stored:
            actor_id = devices[row.initiating_device_id].actor_id
            assert actor_id is not None
            actor, resource = actors[actor_id], resources[row.resource_id]
            ends_at = row.expires_at.timestamp() - self._unix_at_zero
            if not self.model.justifies(actor, resource, row.policy_id, ends_at):
                wrong.append(f"a stored grant lets {actor} use {resource}, which no policy does")
            device, pool = devices[row.receiving_device_id].name, self.model.pools.get(resource)
            if pool is not None and device not in pool.devices:
                wrong.append(
                    f"a stored grant lets {actor} use {device} in {resource}, which does not lead there"
                )
        for name, receiver in {**self.gateways, **self.clients}.items():
            if receiver.joined_at is not None:  # what it is cut off from it cannot have heard of
                stored_at: dict[tuple[UUID, UUID], float] = {}  # the latest of each client and resource
                for row in sorted(stored, key=lambda row: row.inserted_at):
                    if devices[row.receiving_device_id].name == name:
                        pair = row.initiating_device_id, row.resource_id
                        stored_at[pair] = row.inserted_at.timestamp() - self._unix_at_zero
                wrong += [
                    f"{name} lets {devices[client_id].name} use {resources[resource_id]}, which is stored nowhere"
                    for client_id, resource_id in sorted(receiver.held() - stored_at.keys())
                ]
                wrong += [
                    f"{name} was told to end {devices[pair[0]].name}'s use of {resources[pair[1]]}, whose grant stands"
                    for pair, told_at in sorted(receiver.rejected().items())
                    # An older row may be left of a grant whose successor was given, not stored and withdrawn.
                    if pair in stored_at and stored_at[pair] > told_at - _OFFER_S
                ]
        return wrong

    # The peers

    async def add_relay(self, name: str, ip: str) -> SimRelay:
        async with self._store.writing() as transaction:
            secret = await issue(
                transaction.relay_tokens, transaction=transaction, keys=self._keys, name=name
            )
        self._secrets[name] = secret.text
        return self._start_relay(name, Cable(ip, latency_s=self.rng.uniform(0.005, 0.05)))

    async def restart_relay(self, name: str) -> SimRelay:
        """A new process: new secret, no allocations."""
        return self._start_relay(name, self.relays[name].cable)

    def _start_relay(self, name: str, cable: Cable) -> SimRelay:
        relay = SimRelay(name, self._context, cable, self._secrets[name])
        self.relays[name] = relay
        relay.start()
        return relay

    async def add_gateway(self, name: str, site_id: UUID, cable: Cable) -> SimGateway:
        async with self._store.writing() as transaction:
            secret = await issue(
                transaction.of(self._account_id).gateway_tokens,
                transaction=transaction,
                keys=self._keys,
                account_id=self._account_id,
                site_id=site_id,
            )
        self._secrets[name], self.site_of[name] = secret.text, site_id
        return self._start_gateway(name, cable)

    async def restart_gateway(self, name: str) -> SimGateway:
        """A new process with a new key; its router is the same."""
        return self._start_gateway(name, self.gateways[name].cable)

    def _start_gateway(self, name: str, cable: Cable) -> SimGateway:
        gateway = self.gateway_type(name, self._context, cable, self._secrets[name])
        gateway.on_packet = lambda packet: self._at_resource(name, packet)
        gateway.on_flow = lambda flow: self._check_flow(gateway, flow)
        self.gateways[name] = gateway
        gateway.start()
        return gateway

    async def add_client(
        self, name: str, actor: str, cable: Cable, *, token_lifetime_s: float = 86_400
    ) -> SimClient:
        async with self._store.writing() as transaction:
            secret = await issue(
                transaction.of(self._account_id).client_tokens,
                transaction=transaction,
                keys=self._keys,
                account_id=self._account_id,
                actor_id=self._actors[actor],
                expires_at=self._environment.clock.now() + timedelta(seconds=token_lifetime_s),
            )
        self._secrets[name], self.actor_of[name] = secret.text, actor
        return self._start_client(name, cable)

    async def restart_client(self, name: str) -> SimClient:
        self._count_paths(self.clients[name])
        return self._start_client(name, self.clients[name].cable)

    def _start_client(self, name: str, cable: Cable) -> SimClient:
        client = self.client_type(name, self._context, cable, self._secrets[name])
        client.on_packet = lambda packet: self._at_client(name, packet)
        client.on_flow = lambda flow: self._check_flow(client, flow)
        self.clients[name] = client
        client.start()
        return client

    async def restart_who_gave_up(self) -> None:
        """What a service manager does: a peer that finds no portal for 15 s after its start ends."""
        for name in [name for name, peer in self.relays.items() if peer.has_given_up]:
            await self.restart_relay(name)
        for name in [name for name, peer in self.gateways.items() if peer.has_given_up]:
            await self.restart_gateway(name)
        for name in [name for name, peer in self.clients.items() if peer.has_given_up]:
            await self.restart_client(name)

    # Use

    async def probe(self, client: str, resource: str, *, port: int = 53, wait_s: float = 5.0) -> str:
        """Send one UDP probe and wait: "answered", "prohibited", "unreachable", or "silence"."""
        wanted = self.model.resources[resource]
        address = wanted.real_ip if wanted.name is None else await self._resolve_at(client, wanted.name)
        return await self._send_probe(client, address, port, resource=resource, wait_s=wait_s)

    async def probe_device(
        self, client: str, target: str, *, port: int = 53, by_name: bool = False, wait_s: float = 5.0
    ) -> str:
        """Send one UDP probe to another client, found by its address or its host name; outcomes as of `probe`."""
        there = self.clients[target].configuration
        address = None if there is None else str(there.tun.ipv4)
        if by_name and target in self.hostnames:
            resolved = await self._resolve_at(client, self.hostnames[target])
            if resolved is not None and resolved != address:
                self._fail(f"{client}: the name of {target} leads to {resolved} and not to {address}")
        return await self._send_probe(client, address, port, device=target, wait_s=wait_s)

    async def _send_probe(
        self,
        client: str,
        address: str | None,
        port: int,
        *,
        resource: str | None = None,
        device: str | None = None,
        wait_s: float,
    ) -> str:
        process = self.clients[client]
        if address is None or process.configuration is None or process.is_stopped:
            return "silence"
        self._identity += 1
        source_port = 20_000 + self._identity % 40_000
        probe = Probe(process.configuration.tun.ipv4, address, source_port, port, self._identity)
        expected = _Expected(client, resource, device, probe, self._loop.create_future())
        self._waiting[self._identity] = expected
        process.send_packet(probe.encode())
        try:
            async with asyncio.timeout(wait_s):
                outcome = await expected.outcome
        except TimeoutError:
            outcome = "silence"
            self.counts.silent += 1
        if self.violation is not None:
            raise self.violation
        if outcome == "answered":
            self.counts.answered += 1
        elif outcome != "silence":
            self.counts.refused += 1
        return outcome

    async def ask_for_device(self, client: str, pool: str, target: str, *, wait_s: float = 5.0) -> str:
        """Ask for another client through a pool: "authorized", why not, or "silence"."""
        there = self.clients[target].configuration
        if there is None:
            return "silence"
        asked_at = self._loop.time()
        answer = self.clients[client].ask_for_device(self.model.pools[pool].id, str(there.tun.ipv4))
        if answer is None:
            return "silence"
        try:
            async with asyncio.timeout(wait_s):
                outcome = await answer
        except TimeoutError:
            self.counts.silent += 1
            return "silence"
        if outcome != AUTHORIZED:
            self.counts.refused += 1
            return outcome
        self.counts.answered += 1
        refused = self.model.why_no_device(self.actor_of[client], pool, target, asked_at=asked_at)
        if refused is not None:
            raise Violation(f"grants: {client} was granted {refused}")
        return outcome

    # Where packets come out

    gateway_type: type[SimGateway] = SimGateway
    client_type: type[SimClient] = SimClient

    def _at_resource(self, gateway: str, packet: bytes) -> None:
        """A packet left a gateway towards the private network: compare it with the model, answer it."""
        probe = parse(packet)
        if not isinstance(probe, Probe):
            return
        expected = self._waiting.get(probe.identity)
        if expected is None or expected.resource is None:
            self._fail(f"{gateway}: a probe that nobody sent there: {probe}")
            return
        resource = self.model.resources[expected.resource]
        if probe.destination != resource.real_ip or probe.destination_port != expected.probe.destination_port:
            self._fail(
                f"{gateway}: the probe for {expected.resource} ({resource.real_ip}) came out at {probe.destination}"
            )
        if self.site_of[gateway] != resource.site_id:
            self._fail(f"{gateway}: a probe for {expected.resource}, which is another site's")
        expected.receptions += 1
        if expected.receptions > 1:
            self._fail(f"{gateway}: probe {probe.identity} came out {expected.receptions} times")
        refused = self.model.why_refused(
            self.actor_of[expected.client],
            expected.resource,
            probe.destination_port,
            informed_at=self.gateways[gateway].joined_at,
        )
        if refused is not None:
            self._fail(f"{gateway}: {expected.client} reached {refused}")
        self.gateways[gateway].send_packet(probe.reply().encode())

    def _at_device(self, device: str, expected: _Expected) -> None:
        """Another client's packet came out at a client: compare it with the model, answer it."""
        expected.receptions += 1
        if expected.receptions > 1:
            self._fail(f"{device}: probe {expected.probe.identity} came out {expected.receptions} times")
        refused = self.model.why_no_way(
            self.actor_of[expected.client],
            device,
            expected.probe.destination_port,
            informed_at=self.clients[device].joined_at,
        )
        if refused is not None:
            self._fail(f"grants: {expected.client} reached {refused}")
        self.clients[device].send_packet(expected.probe.reply().encode())

    def _at_client(self, client: str, packet: bytes) -> None:
        came = parse(packet)
        if isinstance(came, Probe):
            expected = self._waiting.get(came.identity)
            if expected is not None and expected.device == client and came == expected.probe:
                self._at_device(client, expected)
                return
            if expected is None or expected.client != client or came != expected.probe.reply():
                self._fail(f"{client}: a reply that fits no probe: {came}")
                return
            expected.answers += 1
            if expected.answers > 1:
                self._fail(f"{client}: {expected.answers} answers to probe {came.identity}")
            if not expected.outcome.done():  # a program that gave up no longer listens
                expected.outcome.set_result("answered")
        elif isinstance(came, Refused):
            for expected in self._waiting.values():
                if expected.client == client and expected.probe.source_port == came.source_port:
                    expected.errors += 1
                    if expected.errors > 1:
                        self._fail(f"{client}: {expected.errors} ICMP errors for one probe")
                    elif not expected.outcome.done():
                        expected.outcome.set_result("prohibited" if came.is_prohibited else "unreachable")

    def _check_flow(self, peer: SimGateway | SimClient, flow: KeptFlow) -> None:
        """What a peer records was sent, by whom and to what the authorization is for, and is counted once."""
        record = flow.record
        claims = peer.tokens.get(flow.authorization_id)
        if claims is None or claims.role != flow.role:
            self._fail(f"{peer.name}: a record of no authorization of its own: {flow}")
            return
        inside = (record.inner_src_ip, record.inner_src_port, record.inner_dst_port)
        # Ports come again after 40,000 probes; the latest one is meant.
        probes = [one for one in self._waiting.values() if _ends_of(one.probe) == inside]
        if not probes:
            self._fail(f"{peer.name}: a record of what nobody sent: {record}")
            return
        expected = probes[-1]
        is_answering = flow.role == "responder"
        resource = None if expected.resource is None else self.model.resources[expected.resource]
        destination, name = expected.probe.destination, None
        if resource is not None:
            destination = resource.real_ip if is_answering else destination
            name = resource.name
            if claims.resource_id != resource.id:
                self._fail(f"{peer.name}: {record} is recorded as of {claims.resource_name}")
        if (record.inner_dst_ip, record.domain) != (destination, name):
            self._fail(f"{peer.name}: {record} is of {name} at {destination}")
        if record.flow_end is not None:
            received = expected.receptions if is_answering else expected.answers
            if record.tx_packets != 1 or (record.rx_packets or 0) > received:
                self._fail(f"{peer.name}: {record}, but {received} came of 1 sent")
            if not record.flow_start <= (record.last_packet or "") <= record.flow_end:
                self._fail(f"{peer.name}: the times of {record} are out of order")
        self.counts.checked_flows += 1

    def _count_paths(self, client: SimClient) -> None:
        self.counts.direct_paths += client.paths["direct"]
        self.counts.relayed_paths += client.paths.total() - client.paths["direct"]

    def _fail(self, what: str) -> None:
        if self.violation is None:
            self.violation = Violation(f"at {self._loop.time():.3f} s: {what}")

    async def _resolve_at(self, client: str, name: str) -> str | None:
        """Ask the client's own resolver, as a program there would."""
        answered: asyncio.Future[bytes | None] = self._loop.create_future()
        query = dns.message.make_query(name, "A", id=self.rng.randrange(1 << 16))
        self.clients[client].ask(
            query.to_wire(), lambda answer: None if answered.done() else answered.set_result(answer)
        )
        try:
            async with asyncio.timeout(5):
                wire = await answered
        except TimeoutError:
            return None
        if wire is None:
            return None
        addresses = [str(item) for answer in dns.message.from_wire(wire).answer for item in answer]
        return addresses[0] if addresses else None

    def _resolve_privately(self, name: str) -> frozenset[IpAddress]:
        address = self.zone.get(name)
        return frozenset() if address is None else frozenset({ipaddress.ip_address(address)})


def _ends_of(probe: Probe) -> tuple[str, int, int]:
    return probe.source, probe.source_port, probe.destination_port


@dataclass
class _Expected:
    """A probe on its way to a resource or to a device."""

    client: str
    resource: str | None
    device: str | None
    probe: Probe
    outcome: asyncio.Future[str]
    receptions: int = 0
    answers: int = 0
    errors: int = 0


def random_cable(rng: random.Random, number: int) -> Cable:
    """An edge as the field has them: public, behind some kind of NAT, with some latency and perhaps loss."""
    kind = rng.choice(list(NatKind))
    nat = (
        None
        if kind is NatKind.OPEN
        else Nat(kind, f"198.51.100.{number}", binding_s=rng.choice((60.0, 120.0, 300.0)))
    )
    ip = f"203.0.113.{100 + number}" if nat is None else f"10.{number}.0.2"
    return Cable(ip, nat, latency_s=rng.uniform(0.002, 0.2), loss=rng.choice((0.0, 0.0, 0.01, 0.05)))
