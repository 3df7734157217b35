"""A gateway that drains: it gets nothing new, what it has goes on and can be taken away as before."""

from dataclasses import replace

from support.pools import device_of
from support.portal import World
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.bus import GatewayPresence

ASK = "request_authorization"


def ask(world: World, *connected: str, resource: Resource | None = None) -> dict[str, object]:
    return {
        "resource_id": str((resource or world.resource).id),
        "connected_gateway_ids": list(connected),
    }


async def another_resource(world: World) -> Resource:
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        made = await tables.resources.insert(
            replace(world.resource, id=tx.new_id(), name="another", address="10.30.0.0/16")
        )
        await tables.policies.insert(
            Policy(id=tx.new_id(), account_id=world.account_id, group_id=world.group.id, resource_id=made.id)
        )
    return made


async def test_new_grants_go_to_the_other_gateway_even_of_a_client_with_a_tunnel(world: World) -> None:
    other_resource = await another_resource(world)
    async with world.gateway() as first, world.client(external_id="laptop") as laptop:
        await first.join()
        await laptop.join()
        laptop.send(ASK, ask(world))
        offered = (await first.receive_until("create_authorization"))["payload"]
        first.send("authorization_created", {"ref": offered["ref"]})
        await laptop.receive_until("authorization_created")
        async with world.gateway(external_id="gateway-2") as second, world.client(external_id="nas") as nas:
            await second.join()
            await nas.join()
            first.send("draining", {})
            await first.news()
            connected = str((await device_of(world, "gateway-1")).id)
            for client, asked in (
                (nas, ask(world)), (laptop, ask(world, connected, resource=other_resource)),
            ):  # fmt: skip
                client.send(ASK, asked)
                offered = (await second.receive_until("create_authorization"))["payload"]
                second.send("authorization_created", {"ref": offered["ref"]})
                created = (await client.receive_until("authorization_created"))["payload"]
                assert created["gateway_id"] == str((await device_of(world, "gateway-2")).id)
            assert [one["event"] for one in await first.news()] == []

        # The grant that it has can be taken away as ever.
        first_id = (await device_of(world, "gateway-1")).id
        async with world.portal.services.store.writing() as tx:
            grants = tx.of(world.account_id).authorizations
            await grants.delete_where(grants.c.receiving_device_id == first_id)
        rejected = (await first.receive_until("reject_access"))["payload"]
        assert rejected["resource_id"] == str(world.resource.id)


async def test_without_another_gateway_it_is_offline_until_one_comes_back(world: World) -> None:
    async with world.client(external_id="laptop") as laptop:
        await laptop.join()
        async with world.gateway() as gateway:
            await gateway.join()
            gateway.send("draining", {})
            await gateway.news()
            laptop.send(ASK, ask(world))
            failed = (await laptop.receive_until("authorization_creation_failed"))["payload"]
            assert failed["reason"] == "offline"
            (presence,) = world.portal.services.environment.bus.members("gateway", world.account_id)
            assert isinstance(presence, GatewayPresence)
            assert presence.is_draining
        # What was said counts for that connection only.
        async with world.gateway() as gateway:
            await gateway.join()
            laptop.send(ASK, ask(world))
            assert (await gateway.receive_until("create_authorization"))["payload"]["ref"]
