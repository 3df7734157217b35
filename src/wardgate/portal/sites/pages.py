"""The page of sites and their gateways."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from wardgate.portal.access.resource_types import TYPE_NAMES
from wardgate.portal.access.tables import Resource
from wardgate.portal.bus import GatewayPresence
from wardgate.portal.database.text_search import contains
from wardgate.portal.devices import rules as device_rules
from wardgate.portal.devices.device_line import DeviceLine
from wardgate.portal.devices.tables import Device
from wardgate.portal.logs.history import history_tab
from wardgate.portal.outcomes import Invalid, Missing
from wardgate.portal.sites import rules
from wardgate.portal.sites.tables import MAX_NAME_CHARS, MAX_THRESHOLD, SITES, GatewayToken, Site
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Fact, Link, Several, Status, Tag, Text
from wardgate.portal.web.filters import Search
from wardgate.portal.web.forms import Form, NumberField, TextField
from wardgate.portal.web.listing import (
    Column,
    Editing,
    Empty,
    ListPage,
    Panel,
    PanelAction,
    Pinned,
    Side,
    Tab,
)
from wardgate.portal.web.page import Found, Live, PageRoute, Section
from wardgate.portal.web.visit import Visit

RESOURCES_SHOWN: Final = 200
GATEWAYS_SHOWN: Final = 200


# What the table shows


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What cells need beside the rows."""

    online: Counter[UUID | None]
    resources: Counter[UUID | None]
    policies: int


async def load_facts(visit: Visit, tables: AccountTables, sites: Sequence[Site]) -> SiteFacts:
    ids = [site.id for site in sites]
    c = tables.resources.c
    resources = Counter(await tables.resources.load_column(c.site_id, c.site_id.in_(ids)))
    internet = await tables.resources.find(c.type == "internet")
    policies = 0
    if internet is not None:
        policies = await tables.policies.count(tables.policies.c.resource_id == internet.id)
    return SiteFacts(_online(visit), resources, policies)


def _online(visit: Visit) -> Counter[UUID | None]:
    """Count the gateways of each site that take grants: one that drains takes none."""
    gateways = visit.services.environment.bus.members("gateway", visit.account.id)
    return Counter(gateway.site_id for gateway in gateways if not gateway.is_draining)


def health_of(site: Site, online: int) -> Status:
    if online == 0:
        return Status("Offline", "neutral")
    return Status("Healthy", "good") if online >= site.health_threshold else Status("Degraded", "caution")


def _name(site: Site, _facts: SiteFacts) -> Text | Several:
    if site.managed_by == "system":
        return Several((Text(site.name), Tag("system")))
    return Text(site.name)


def _resources(site: Site, facts: SiteFacts) -> Link:
    if site.managed_by == "system":
        return Link(_count(facts.policies, "policy", "policies"), "/policies")
    count = facts.resources[site.id]
    return Link(_count(count, "resource", "resources"), f"/resources?site_id={site.id}")


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


# What the panel shows


@dataclass(frozen=True, slots=True)
class GatewayView(DeviceLine[GatewayPresence]):
    """A gateway in its tab."""

    token: str
    action: str | None
    has_site_token: bool

    @property
    def status(self) -> Status:
        if self.presence is None:
            return Status("Offline", "neutral")
        return Status("Draining", "caution") if self.is_draining else Status("Online", "good")

    @property
    def is_draining(self) -> bool:
        """Whether it gets nothing new: an administrator drains it, or it is about to stop and has said so."""
        return self.row.draining_since is not None or (
            self.presence is not None and self.presence.is_stopping
        )


@dataclass(frozen=True, slots=True)
class GatewaysView:
    """The tab of gateways: those online and those with a token of their own, or all."""

    gateways: Sequence[GatewayView]
    is_all: bool
    hidden: int


async def load_gateways(visit: Visit, tables: AccountTables, site: Site) -> GatewaysView:
    c = tables.devices.c
    devices = await tables.devices.load_all(
        c.type == "gateway", c.site_id == site.id, order_by=[c.name, c.id], limit=GATEWAYS_SHOWN
    )
    t = tables.gateway_tokens.c
    tokens = await tables.gateway_tokens.load_all(
        (t.site_id == site.id) | t.device_id.in_([one.id for one in devices])
    )
    online = {
        one.gateway_id: one
        for one in visit.services.environment.bus.members("gateway", visit.account.id, site.id)
    }
    shown = [_shown_gateway(device, online.get(device.id), tokens) for device in devices]  # type: ignore[call-overload]
    is_all = visit.request.query_params.get("gateways") == "all"
    kept = [one for one in shown if is_all or one.presence is not None or _owned(one.row, tokens)]
    kept.sort(key=lambda one: one.presence is None)
    return GatewaysView(kept, is_all, len(shown) - len(kept))


def _owned(device: Device, tokens: Sequence[GatewayToken]) -> list[GatewayToken]:
    return [token for token in tokens if token.device_id == device.id]


def _shown_gateway(
    device: Device, presence: GatewayPresence | None, tokens: Sequence[GatewayToken]
) -> GatewayView:
    used_id = presence.token_id if presence is not None else device.gateway_token_id
    used = next((token for token in tokens if token.id == used_id), None)
    own = _owned(device, tokens)
    active = next((token for token in own if token.rotated_at is None), None)
    verb = "Connected" if presence is not None else "Last connected"
    if used is not None and used.site_id is not None:
        told = f"{verb} with a token of the site"
        if active is not None:
            told += "; a token of its own is waiting to be used"
        return GatewayView(device, presence, told, None if active else "upgrade", has_site_token=True)
    if used is not None and used.rotated_at is not None:
        return GatewayView(device, presence, f"{verb} with a token that is being replaced", "rotate", False)
    if used is not None:
        return GatewayView(device, presence, f"{verb} with its own token", "rotate", has_site_token=False)
    if active is not None:
        return GatewayView(
            device, presence, "Never connected; its token is waiting to be used", "rotate", False
        )
    told = "Never connected, and without a token" if device.last_seen_at is None else "Its token is gone"
    return GatewayView(device, presence, told, "issue", has_site_token=False)


async def count_gateways(_visit: Visit, tables: AccountTables, site: Site) -> int:
    c = tables.devices.c
    return await tables.devices.count(c.type == "gateway", c.site_id == site.id)


async def load_resources(_visit: Visit, tables: AccountTables, site: Site) -> Sequence[tuple[Resource, str]]:
    """Return the site's resources, each with what its type is called."""
    c = tables.resources.c
    found = await tables.resources.load_all(
        c.site_id == site.id, order_by=[c.name, c.id], limit=RESOURCES_SHOWN
    )
    return [(resource, TYPE_NAMES[resource.type]) for resource in found]


async def count_resources(_visit: Visit, tables: AccountTables, site: Site) -> int:
    return await tables.resources.count(tables.resources.c.site_id == site.id)


@dataclass(frozen=True, slots=True)
class SiteTokens:
    """Tokens that any number of gateways may use, with how many are connected by each."""

    tokens: Sequence[tuple[GatewayToken, int]]


async def load_site_tokens(visit: Visit, tables: AccountTables, site: Site) -> SiteTokens:
    tokens = await tables.gateway_tokens.load_all(tables.gateway_tokens.c.site_id == site.id)
    members = visit.services.environment.bus.members("gateway", visit.account.id)
    used = Counter(member.token_id for member in members)
    return SiteTokens([(token, used[token.id]) for token in tokens])  # type: ignore[index]


async def count_site_tokens(_visit: Visit, tables: AccountTables, site: Site) -> int:
    return await tables.gateway_tokens.count(tables.gateway_tokens.c.site_id == site.id)


async def facts_of(_visit: Visit, _tables: AccountTables, site: Site) -> Sequence[Fact]:
    return (
        Fact("Healthy from", Text(_count(site.health_threshold, "gateway", "gateways") + " online")),
        Fact("Who may reach it", Link("Policies for its resources", f"/policies?site_id={site.id}")),
        Fact("ID", Text(str(site.id), is_code=True)),
    )


async def status_of(visit: Visit, _tables: AccountTables, site: Site) -> Status:
    return health_of(site, _online(visit)[site.id])


# What can be done


async def _make(visit: Visit, tables: AccountTables, _: Transaction, given: Mapping[str, Any]) -> Site:
    return await rules.make_site(tables, visit.account, given)


async def _change(
    _visit: Visit, tables: AccountTables, _: Transaction, before: Site, given: Mapping[str, Any]
) -> Site:
    return await rules.change_site(tables, before, given)


async def _delete(_visit: Visit, tables: AccountTables, _: Transaction, site: Site) -> str:
    await rules.load_editable_site(tables, site.id)
    await tables.sites.delete(site.id)
    return f"Site “{site.name}” was deleted."


_THRESHOLD: Final = NumberField(
    name="health_threshold",
    label="Health threshold",
    help="How many gateways have to be online for the site to be healthy.",
    least=1,
    most=MAX_THRESHOLD,
    is_required=True,
    initial=1,
)
_FORM: Final = Form(
    (
        TextField(
            name="name",
            label="Name",
            help="Where the gateways stand, such as a data centre or an office.",
            placeholder="Berlin office",
            longest=MAX_NAME_CHARS,
            is_required=True,
        ),
        _THRESHOLD,
    )
)
_INTERNET_FORM: Final = Form((_THRESHOLD,))


# Gateways: forms of their own within the panel


async def deploy(visit: Visit) -> Response:
    """Make a gateway with a token, and show how to start it; the token is shown this once."""
    async with visit.writing() as (tables, transaction):
        site = await rules.load_site(tables, visit.id())
        device, token = await device_rules.make_gateway(
            tables, transaction, site.id, {}, keys=visit.services.keys
        )
    return await _show_token(visit, site, device, token.text, "deploy")


async def before_deploying(visit: Visit) -> Response:
    """Answer to a reload of the page that showed a token: it is not shown again."""
    try:
        async with visit.reading() as tables:
            site = await rules.load_site(tables, visit.id())
    except Missing:
        return PAGE.gone(visit)
    side = Side("Deploy a gateway", "sites/before_deploying.html", {"row": site})
    return await PAGE.show(visit, side)


async def issue_token(visit: Visit) -> Response:
    """Issue a gateway's first token, or one that takes the place of another."""
    async with visit.writing() as (tables, transaction):
        site = await rules.load_site(tables, visit.id())
        gateway = await device_rules.load_gateway(tables, site.id, visit.id("gateway_id"))
        own = await tables.gateway_tokens.count(tables.gateway_tokens.c.device_id == gateway.id)
        issue = device_rules.rotate_gateway_token if own else device_rules.make_gateway_token
        token = await issue(tables, transaction, gateway, keys=visit.services.keys)
    return await _show_token(visit, site, gateway, token.text, "token")


async def _show_token(visit: Visit, site: Site, gateway: Device, token: str, why: str) -> Response:
    values = {
        "row": site,
        "gateway": gateway,
        "token": token,
        "why": why,
        "external_id": str(visit.services.environment.new_id()),
        "api_url": visit.services.settings.socket_url,
        "installer": await visit.frame.installers.show("gateway"),
    }
    title = "Deploy a gateway" if why == "deploy" else f"New token of {gateway.name}"
    live = f"{PAGE.path}/{site.id}/gateways/{gateway.id}"
    side = Side(title, "sites/deploy.html", values, is_wide=True)
    return await PAGE.show(visit, side, live_url=visit.url(live), **await _state_of(visit, site, gateway))


async def gateway_state(visit: Visit) -> Response:
    """Answer with the part of the token's page that changes: whether the gateway is online."""
    async with visit.reading() as tables:
        site = await rules.load_site(tables, visit.id())
        gateway = await device_rules.load_gateway(tables, site.id, visit.id("gateway_id"))
    return await visit.show(
        "sites/gateway_state.html", row=site, gateway=gateway, **await _state_of(visit, site, gateway)
    )


async def _state_of(visit: Visit, site: Site, gateway: Device) -> dict[str, Any]:
    members = visit.services.environment.bus.members("gateway", visit.account.id, site.id)
    return {"online": next((one for one in members if one.gateway_id == gateway.id), None)}


async def rename_gateway(visit: Visit) -> Response:
    try:
        async with visit.writing() as (tables, _):
            gateway = await device_rules.load_gateway(tables, visit.id(), visit.id("gateway_id"))
            after = await device_rules.rename(tables, gateway, {"name": str(visit.form.get("name", ""))})
    except Invalid as refused:
        return _back(visit, f"The gateway was not renamed: {refused}.", tone="bad")
    return _back(visit, f"The gateway is called “{after.name}” now.")


async def drain_gateway(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        gateway = await device_rules.load_gateway(tables, visit.id(), visit.id("gateway_id"))
        await device_rules.drain_gateway(tables, gateway)
    return _back(visit, f"Gateway “{gateway.name}” gets nothing new.", undo=_of(gateway, "undrain"))


async def undrain_gateway(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        gateway = await device_rules.load_gateway(tables, visit.id(), visit.id("gateway_id"))
        await device_rules.undrain_gateway(tables, gateway)
    return _back(visit, f"Gateway “{gateway.name}” is used again.", undo=_of(gateway, "drain"))


async def delete_gateway(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        gateway = await device_rules.load_gateway(tables, visit.id(), visit.id("gateway_id"))
        await tables.devices.delete(gateway.id)
    return _back(visit, f"Gateway “{gateway.name}” was deleted.")


async def revoke_site_token(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        token = await device_rules.load_gateway_token(tables, visit.id(), visit.id("token_id"))
        await tables.gateway_tokens.delete(token.id)
    return _back(visit, "The token was revoked.", tab="tokens")


async def revoke_site_tokens(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        site = await rules.load_site(tables, visit.id())
        tokens = tables.gateway_tokens
        count = await tokens.delete_where(tokens.c.site_id == site.id)
    return _back(visit, f"{_count(count, 'token', 'tokens')} revoked.", tab="tokens")


def _of(gateway: Device, action: str) -> str:
    return f"{PAGE.path}/{gateway.site_id}/gateways/{gateway.id}/{action}"


def _back(visit: Visit, toast: str, **query: Any) -> Response:
    return visit.go(f"{PAGE.path}/{visit.id()}", toast=toast, **query)


@dataclass(frozen=True, kw_only=True)
class SitePage(ListPage[Site, SiteFacts]):
    """The page of sites; the palette finds their gateways, too, which have no page of their own."""

    async def find(self, tables: AccountTables, words: str, *, limit: int) -> list[Found]:
        c = tables.devices.c
        gateways = await tables.devices.load_all(
            c.type == "gateway", contains(c.name, words), order_by=[c.name, c.id], limit=limit
        )
        sites = await ListPage.find(self, tables, words, limit=limit)
        return [*sites, *(Found(one.name, f"{self.path}/{one.site_id}", "Gateway") for one in gateways)]


PAGE: Final = SitePage(
    name="Sites",
    singular="site",
    path="/sites",
    icon="map-pin",
    section=Section.INFRASTRUCTURE,
    about="Where gateways stand, and with them the resources that they reach.",
    live=Live(
        tables=frozenset({"sites", "devices", "gateway_tokens", "resources", "policies"}),
        presence=frozenset({"gateway"}),
    ),
    repository=lambda tables: tables.sites,
    load_facts=load_facts,
    pinned=Pinned(SITES.c.managed_by == "system", SITES.c.managed_by != "system"),
    columns=(
        Column(name="name", label="Site", cell=_name, sort=SITES.c.name),
        Column(
            name="gateways",
            label="Gateways",
            cell=lambda site, facts: Text(f"{facts.online[site.id]} online"),
        ),
        Column(name="resources", label="Resources", cell=_resources, is_secondary=True),
        Column(
            name="status", label="Status", cell=lambda site, facts: health_of(site, facts.online[site.id])
        ),
    ),
    filters=(Search(label="Name", columns=(SITES.c.name,)),),
    empty=Empty("No sites yet", "Create a site in order to deploy gateways and attach resources."),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            Tab(
                name="gateways",
                label="Gateways",
                template="sites/gateways.html",
                load=load_gateways,
                count=count_gateways,
            ),
            Tab(
                name="resources",
                label="Resources",
                template="sites/resources.html",
                load=load_resources,
                count=count_resources,
            ),
            Tab(
                name="tokens",
                label="Site tokens",
                template="sites/tokens.html",
                load=load_site_tokens,
                count=count_site_tokens,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="delete",
                label="Delete site",
                run=_delete,
                warning="All its gateways and resources are deleted too, for good, and everybody loses access.",
                is_dangerous=True,
                typed=lambda site: site.name,
                leaves=True,
                is_offered=lambda _visit, site: site.managed_by != "system",
            ),
        ),
    ),
    editing=Editing(
        form=lambda site: _INTERNET_FORM if site is not None and site.managed_by == "system" else _FORM,
        make=_make,
        change=_change,
    ),
    more=(
        PageRoute("/{id}/deploy", before_deploying),
        PageRoute("/{id}/deploy", deploy, "POST"),
        PageRoute("/{id}/gateways/{gateway_id}", gateway_state),
        PageRoute("/{id}/gateways/{gateway_id}/token", issue_token, "POST"),
        PageRoute("/{id}/gateways/{gateway_id}/rename", rename_gateway, "POST"),
        PageRoute("/{id}/gateways/{gateway_id}/drain", drain_gateway, "POST"),
        PageRoute("/{id}/gateways/{gateway_id}/undrain", undrain_gateway, "POST"),
        PageRoute("/{id}/gateways/{gateway_id}/delete", delete_gateway, "POST"),
        PageRoute("/{id}/tokens/revoke", revoke_site_tokens, "POST"),
        PageRoute("/{id}/tokens/{token_id}/revoke", revoke_site_token, "POST"),
    ),
)
