"""Every noun and verb of `wardgate admin`.

A verb names the members of its body that are called, read or explained otherwise on the command line; the others
follow, as the API's document describes them (`described`). A test compares all with that document: paths, methods, body
members.
"""

from dataclasses import replace
from typing import Final

from wardgate.cli.admin.described import DESCRIBED
from wardgate.cli.admin.vocabulary import Answer, Body, Field, Kind, Noun, Verb

_FLAG, _ID = Kind.FLAG, Kind.ID


def _list(
    path: str,
    help_: str,
    *filters: Field,
    columns: tuple[str, ...] = (),
    is_versioned: bool = False,
    all_path: str = "",
) -> Verb:
    return Verb(
        "list", help_, "GET", path, Answer.PAGES,
        filters=filters, columns=columns, is_versioned=is_versioned, all_path=all_path,
    )  # fmt: skip


def _show(path: str, singular: str, *, is_versioned: bool = True) -> Verb:
    return Verb("show", f"Show one {singular}.", "GET", path, is_versioned=is_versioned)


def _create(path: str, wrapper: str, help_: str, *fields: Field) -> Verb:
    return Verb("create", help_, "POST", path, body=Body.FIELDS, wrapper=wrapper, fields=fields)


def _update(path: str, wrapper: str, help_: str, *fields: Field) -> Verb:
    return Verb(
        "update", help_, "PATCH", path, body=Body.FIELDS, wrapper=wrapper, fields=fields, is_versioned=True
    )


def _delete(path: str, help_: str, *, is_versioned: bool = True) -> Verb:
    return Verb("delete", help_, "DELETE", path, is_destructive=True, is_versioned=is_versioned)


def _delete_all(path: str, help_: str) -> Verb:
    return Verb("delete-all", help_, "DELETE", path, is_destructive=True)


def _listed_ids(path: str, wrapper: str, element: str, elements: str, what: str) -> tuple[Verb, ...]:
    """Return the verbs of a list of ids within an object."""
    return (
        Verb(
            "add", f"Add {what}; existing ones are left alone.", "PATCH", path,
            body=Body.ADDED, wrapper=wrapper, element=element, elements=elements, is_versioned=True,
        ),
        Verb(
            "remove", f"Remove {what}; those who are not in the list are ignored.", "PATCH", path,
            body=Body.REMOVED, wrapper=wrapper, element=element, elements=elements, is_versioned=True,
        ),
        Verb(
            "replace", f"Make these the only {what}; giving none empties the list.", "PUT", path,
            body=Body.WHOLE_LIST, wrapper=wrapper, element=element, elements=elements, is_destructive=True,
            is_versioned=True,
        ),
    )  # fmt: skip


_NAME: Final = Field("name", "its name")
_NEW_NAME: Final = Field("name", "its name", is_required=True)
_BY_NAME: Final = Field("name", "only those with exactly this name")

_ACTOR_TYPES: Final = ("account_user", "account_admin_user", "service_account")
_ACTOR_FIELDS: Final = (
    Field("email", "e-mail address, required for people"),
    Field("allow_email_otp_sign_in", "may sign in with a code sent to this address", _FLAG),
)
_RESOURCE_TYPES: Final = ("dns", "ip", "cidr", "internet", "static_device_pool")
_IP_STACKS: Final = ("dual", "ipv4_only", "ipv6_only")
_RESOURCE_FIELDS: Final = (
    Field("address", "name pattern, address or prefix"),
    Field("address_description", "text that people see instead of the address"),
    Field("ip_stack", "address families of a DNS resource", choices=_IP_STACKS),
    Field(
        "filters",
        "traffic to let through: tcp:443,8000-9000, udp:53 or icmp; repeatable; "
        '"" removes all filters: everything may pass',
        Kind.FILTERS,
        option="filter",
    ),
)
_POOL_FIELDS: Final = (
    Field("address", "of a dynamic pool: a pattern of host names, such as *.lab.example"),
    _RESOURCE_FIELDS[1],
    _RESOURCE_FIELDS[3],
    Field(
        "device_membership_criteria.mode", "of a device_pool: its members are listed, or found by host name",
        choices=("listed", "dynamic"), option="membership",
    ),
    Field(
        "device_membership_criteria.hostname", "of a device_pool: a pattern of host names",
        option="membership-hostname",
    ),
)  # fmt: skip
_POLICY_FIELDS: Final = (
    Field("description", "text for people"),
    Field("flow_log_uploads_enabled", "log the flows that it grants", _FLAG, option="flow-log-uploads"),
    Field(
        "conditions",
        "'PROPERTY OPERATOR VALUE…', such as 'remote_ip is_in_cidr 203.0.113.0/24'; repeatable; \"\" clears",
        Kind.CONDITIONS,
        option="condition",
    ),
)
_LOG_FILTERS: Final = (
    Field("type", "stream to read", choices=("change", "session", "flow", "api_request"), is_required=True),
    Field("begin", "from when: a time, or how long ago (24h); 90 days by default", Kind.PAST_INSTANT),
    Field("end", "until this time, inclusive; now by default", Kind.PAST_INSTANT),
    Field("actor_id", "only those of this actor", _ID, noun="actors"),
    Field("actor_email", "only those of the actor who had this address at the time; not for api_request"),
    Field("q", "text that an entry contains", option="contains"),
)

_ACCOUNT_FIELDS: Final = (
    Field(
        "features.policy_conditions",
        "administrators may put conditions on policies",
        _FLAG,
        option="policy-conditions",
    ),
    Field(
        "features.internet_resource",
        "the internet resource may be granted",
        _FLAG,
        option="internet-resource",
    ),
    *(
        Field(f"limits.{name}", help_, Kind.NUMBER, option=f"limit-{name.removesuffix('_count')}")
        for name, help_ in (
            ("users_count", 'enabled people; "": no limit'),
            ("monthly_active_users_count", "people who connected in the last 30 days"),
            ("service_accounts_count", "enabled service accounts"),
            ("sites_count", "sites"),
            ("account_admin_users_count", "enabled administrators"),
            ("api_clients_count", "enabled API clients"),
            ("api_tokens_per_client_count", "tokens of one API client"),
            ("api_refill_rate", "REST: tokens per second, 10 a call"),
            ("api_capacity", "REST: tokens that can be saved up"),
            ("ingestion_refill_rate", "stored, but not used"),
            ("ingestion_capacity", "stored, but not used"),
        )
    ),
)
_API_CLIENTS: Final = "/wardgate/accounts/{account}/api_clients"
_TYPED_SLUG: Final = Field("slug", "the account's short name, typed to confirm", is_required=True)

_SIGN_IN_FIELDS: Final = (
    Field(
        "context",
        "where people may sign in with it",
        choices=("clients_and_portal", "clients_only", "portal_only"),
    ),
    Field(
        "client_session_lifetime_secs",
        "3600 to 7776000; empty: 7 days",
        Kind.NUMBER,
        option="client-session-lifetime",
    ),
    Field(
        "portal_session_lifetime_secs",
        "300 to 86400; empty: 8 hours",
        Kind.NUMBER,
        option="portal-session-lifetime",
    ),
    Field(
        "is_disabled",
        "disabling ends all sign-ins with it; some are enabled only after a trial sign-in",
        _FLAG,
    ),
)
_PROVIDER_FIELDS: Final = (
    *_SIGN_IN_FIELDS,
    Field("is_default", "send clients there without asking", _FLAG, option="default"),
    Field("fills_groups", "let the claim groups decide memberships", _FLAG, option="fills-groups"),
)
_SECRET: Final = (
    Field("client_id", "client id that the provider issued", option="client-id"),
    Field(
        "client_secret", "client secret that the provider issued; never shown again", option="client-secret"
    ),
)
_OF_KIND: Final = {
    "google": _SECRET,
    "entra": (
        *_SECRET,
        Field("issuer", "https://login.microsoftonline.com/TENANT/v2.0"),
        Field("email_claim", "claim that holds the e-mail address", choices=("email", "upn", "preferred_username")),
    ),
    "okta": _SECRET,
    "oidc": (
        *_SECRET,
        Field("discovery_document_uri", "https://…/.well-known/openid-configuration"),
        Field("issuer", "whom the trial sign-in proves by default"),
        Field("email_verification_method", "how e-mail addresses are verified", choices=("none", "claim", "proof")),
    ),
}  # fmt: skip
_NEEDED: Final = {
    "issuer": ("entra",), "client_id": tuple(_OF_KIND), "client_secret": tuple(_OF_KIND),
    "discovery_document_uri": ("oidc",),
}  # fmt: skip


def _provider_verbs(kind: str, title: str) -> tuple[Verb, ...]:
    """Return what the operator does to the providers of one kind."""
    place = f"/wardgate/accounts/{{account}}/{kind}_auth_providers"
    own = _OF_KIND[kind]
    new = tuple(replace(one, is_required=kind in _NEEDED.get(one.wire, ())) for one in own)
    wrapper = f"{kind}_auth_provider"
    made = (
        _create(
            place,
            wrapper,
            f"Create a {title} provider (operator's token).",
            _NEW_NAME,
            *new,
            *_PROVIDER_FIELDS,
        ),
        _update(
            f"{place}/{{id}}",
            wrapper,
            f"Change a {title} provider (operator's token).",
            _NAME,
            *own,
            *_PROVIDER_FIELDS,
        ),
        _delete(
            f"{place}/{{id}}",
            "Delete a provider with the tokens and sessions that it issued (operator's token).",
        ),
        Verb(
            "verify",
            "Print where a browser has to go for a trial sign-in, which a provider needs to be enabled; values that are"
            " given are tried, and stored if it succeeds (operator's token).",
            "POST",
            f"{place}/{{id}}/verification",
            body=Body.FIELDS,
            wrapper=wrapper,
            fields=tuple(one for one in own if not one.wire.startswith("email_")),
            columns=("url",),
        ),
        Verb(
            "end-sessions",
            "End all sign-ins with a provider (operator's token).",
            "DELETE",
            f"{place}/{{id}}/sessions",
            is_destructive=True,
            columns=("portal_sessions", "client_tokens"),
        ),
    )
    return tuple(replace(verb, is_operators=True, lookup=place) for verb in made)


def _local_verbs(kind: str, title: str) -> tuple[Verb, ...]:
    """Return what the operator does to the providers of a kind that needs no identity provider."""
    place, wrapper = f"/wardgate/accounts/{{account}}/{kind}_auth_providers", f"{kind}_auth_provider"
    about = "(operator's token)"
    making = _create(place, wrapper, f"Let people sign in by {title} {about}.", _NEW_NAME, *_SIGN_IN_FIELDS)
    changing = _update(
        f"{place}/{{id}}", wrapper, f"Change a {title} provider {about}.", _NAME, *_SIGN_IN_FIELDS
    )
    made = (making, changing) if kind == "userpass" else (changing,)
    return tuple(replace(verb, is_operators=True, lookup=place) for verb in made)


def _listing_verbs(kind: str, title: str) -> tuple[Verb, ...]:
    """Return how the providers of one kind are looked at; the published API leaves out passwords."""
    is_operators = kind == "userpass"
    place = (
        f"/wardgate/accounts/{{account}}/{kind}_auth_providers" if is_operators else f"/{kind}_auth_providers"
    )
    listing = _list(place, f"List {title} providers, newest first.", _BY_NAME)
    showing = _show(f"{place}/{{id}}", f"{title} provider")
    if not is_operators:
        return listing, showing
    return tuple(replace(verb, is_operators=True, lookup=place) for verb in (listing, showing))


_PROVIDERS: Final = tuple(
    Noun(
        f"{kind.replace('_', '-')}-providers", f"{title} provider", f"Sign-in with {title}.",
        (
            *_listing_verbs(kind, title),
            *(_provider_verbs(kind, title) if kind in _OF_KIND else _local_verbs(kind, title)),
        ),
        columns=("id", "name", "context", "is_disabled", *columns),
    )
    for kind, title, columns in (
        ("email_otp", "Email OTP", ()),
        ("userpass", "password", ()),
        ("google", "Google", ("is_default",)),
        ("entra", "Entra", ("is_default", "issuer")),
        ("okta", "Okta", ("is_default", "okta_domain")),
        ("oidc", "OIDC", ("is_default", "issuer")),
    )
)  # fmt: skip

DECLARED: Final = (
    Noun(
        "account", "account", "The account that the token belongs to.",
        (_show("/account", "account", is_versioned=False),),
        named_by=(),
    ),
    Noun(
        "account-settings", "settings", "What administrators decide about their account.",
        (
            _show("/wardgate/account_settings", "account's settings"),
            _update(
                "/wardgate/account_settings", "account_settings", "Change settings; omitted ones stay as they are.",
                Field("name", "the account's name"),
                Field("legal_name", "of the organisation"),
                Field("search_domain", "that clients append to short names; \"\" clears"),
                Field(
                    "clients_upstream_dns.type", "who resolves names that are not resources", option="dns-type",
                    choices=("system", "secure", "custom"),
                ),
                Field(
                    "clients_upstream_dns.doh_provider", "for --dns-type secure", option="doh-provider",
                    choices=("google", "opendns", "cloudflare", "quad9"),
                ),
                Field(
                    "clients_upstream_dns.addresses", "for --dns-type custom; repeatable", Kind.ADDRESSES,
                    option="dns-server",
                ),
                Field("outdated_gateway_notifications", "mail admins about outdated gateways", _FLAG),
                Field(
                    "second_factor_for", "who must have a second factor to sign in by e-mail or password",
                    choices=("nobody", "admins", "everybody"),
                ),
            ),
            Verb(
                "schedule-deletion", "Disable the account now, and delete it in seven days.", "POST",
                "/wardgate/account_settings/deletion", body=Body.FIELDS, wrapper="deletion", fields=(_TYPED_SLUG,),
            ),
        ),
        named_by=(),
    ),
    Noun(
        "actors", "actor", "People, service accounts and API clients.",
        (
            _list(
                "/actors", "List actors.", _BY_NAME,
                Field("email", "only the one with this address"),
                Field("type", "only those of this type", choices=(*_ACTOR_TYPES, "api_client")),
            ),
            _show("/actors/{id}", "actor"),
            _create(
                "/actors", "actor", "Create a person or a service account.", _NEW_NAME,
                Field("type", "what it is", choices=_ACTOR_TYPES, is_required=True), *_ACTOR_FIELDS,
            ),
            _update(
                "/actors/{id}", "actor", "Change an actor.", _NAME,
                Field("type", "make a user an admin, or an admin a user", choices=_ACTOR_TYPES[:2]),
                *_ACTOR_FIELDS,
                Field(
                    "is_disabled",
                    "lock out: ends sessions and deletes client tokens, which --no-disabled does not restore", _FLAG,
                ),
            ),
            _delete("/actors/{id}", "Delete an actor with its tokens, devices and memberships."),
            Verb(
                "send-password-link", "Mail a person a link to choose a password; show it if the portal sends no mail.",
                "POST", "/wardgate/actors/{id}/password_links", columns=("actor_id", "expires_at", "url"),
            ),
            Verb(
                "set-password", "Set a person's password; what was signed in with another one ends.",
                "PUT", "/wardgate/actors/{id}/password", body=Body.FIELDS, wrapper="password",
                fields=(Field("secret", "the password, of 12 characters or more", is_required=True),),
                columns=("actor_id", "is_set"),
            ),
            Verb(
                "remove-password", "Remove a person's password, and end what was signed in with it.",
                "DELETE", "/wardgate/actors/{id}/password", is_destructive=True, columns=("actor_id", "is_set"),
            ),
            Verb(
                "second-factors", "Show a person's second factors, and how many recovery codes are left.",
                "GET", "/wardgate/actors/{id}/second_factors",
                columns=("actor_id", "second_factors", "recovery_codes_left"),
            ),
            Verb(
                "reset-second-factors", "Remove a person's second factors and recovery codes, which were lost.",
                "DELETE", "/wardgate/actors/{id}/second_factors", is_destructive=True,
                columns=("actor_id", "second_factors", "recovery_codes_left"),
            ),
        ),
        columns=("id", "name", "type", "email", "is_disabled"),
        named_by=("name", "email"),
        filtered_by=("name", "email"),
    ),
    Noun(
        "client-tokens", "client token", "Tokens that sign headless clients in as an actor.",
        (
            _list("/actors/{actor}/client_tokens", "List an actor's tokens, newest first."),
            _show("/actors/{actor}/client_tokens/{id}", "client token"),
            _create(
                "/wardgate/client_tokens", "client_token", "Create a token for a person or a service account.",
                Field("actor_id", "actor whom it signs in", _ID, noun="actors", is_required=True),
                Field(
                    "expires_at", "until when: a time, or how long from now (30d)", Kind.INSTANT,
                    is_required=True,
                ),
            ),
            _delete("/actors/{actor}/client_tokens/{id}", "Delete a token; clients that use it are disconnected."),
            _delete_all("/actors/{actor}/client_tokens", "Delete all tokens of an actor."),
        ),
        columns=("id", "expires_at", "inserted_at"),
        named_by=(),
    ),
    Noun(
        "external-identities", "external identity", "An actor's records at identity providers.",
        (
            _list("/actors/{actor}/external_identities", "List an actor's identities, newest first."),
            _show("/actors/{actor}/external_identities/{id}", "external identity"),
            _delete(
                "/actors/{actor}/external_identities/{id}",
                "Delete an identity with the sessions and tokens obtained through it.",
            ),
        ),
        columns=("id", "issuer", "email", "idp_id", "synced_at", "inserted_at"),
        named_by=(),
    ),
    Noun(
        "clients", "client", "Devices of people and service accounts.",
        (
            _list(
                "/clients", "List clients.", _BY_NAME,
                Field("firezone_id", "only those with this device id", option="device-id"),
            ),
            _show("/clients/{id}", "client"),
            _update("/clients/{id}", "client", "Rename a client.", _NEW_NAME),
            Verb(
                "verify", "Mark a client as verified; an earlier time of verification is kept.",
                "PUT", "/clients/{id}/verify",
                is_versioned=True,
            ),
            Verb("unverify", "Withdraw a client's verification.", "PUT", "/clients/{id}/unverify", is_versioned=True),
            Verb(
                "set-hostname", "Set the host name by which dynamic device pools match a client.", "PUT",
                "/wardgate/clients/{id}/hostname", body=Body.FIELDS, wrapper="client", is_versioned=True,
                fields=(Field("hostname", 'such as nas.lab.example; "" clears', is_required=True),),
            ),
            _delete("/clients/{id}", "Delete a client; its owner may sign in again."),
        ),
        columns=("id", "name", "actor_id", "ipv4", "online", "last_seen_version", "verified_at", "last_seen_at"),
    ),
    Noun(
        "offers", "offer", "Which resources a client is offered, and why not the others.",
        (
            _list(
                "/wardgate/clients/{client}/resources",
                "List all resources, whether each is offered to a client, and why not.",
            ),
        ),
        columns=("id", "name", "type", "address", "is_offered", "outcome", "reason"),
        named_by=(),
    ),
    Noun(
        "groups", "group", "Sets of actors to which policies grant access.",
        (
            _list(
                "/groups", "List groups.", _BY_NAME,
                Field("directory_id", 'only those of a directory; "" for those made here', option="directory"),
                Field("entity_type", "only those of this kind", choices=("group", "org_unit")),
                all_path="/wardgate/groups",
            ),
            _show("/wardgate/groups/{id}", "group"),
            _create("/groups", "group", "Create a group.", _NEW_NAME),
            _update("/groups/{id}", "group", "Rename a group.", _NEW_NAME),
            _delete("/groups/{id}", "Delete a group; its policies stay and grant nothing."),
        ),
        columns=("id", "name", "type", "entity_type", "synced_at"),
    ),
    Noun(
        "members", "member", "The members of a group.",
        (
            _list("/groups/{group}/memberships", "List the actors of a group.", is_versioned=True),
            *_listed_ids("/groups/{group}/memberships", "memberships", "actor_id", "actors", "members"),
        ),
        columns=("id", "name", "type"),
        named_by=(),
    ),
    Noun(
        "sites", "site", "Gateways with the resources that they reach.",
        (
            _list("/sites", "List sites.", _BY_NAME),
            _show("/sites/{id}", "site"),
            _create("/sites", "site", "Create a site.", _NEW_NAME),
            _update("/sites/{id}", "site", "Rename a site.", _NEW_NAME),
            _delete("/sites/{id}", "Delete a site with its gateways, their tokens and its resources."),
        ),
    ),
    Noun(
        "gateways", "gateway", "The gateways of a site.",
        (
            _list(
                "/wardgate/sites/{site}/gateways", "List the gateways of a site.", _BY_NAME,
                Field("ipv4", "only the one with this tunnel address"),
                Field("ipv6", "only the one with this tunnel address"),
            ),
            _show("/wardgate/sites/{site}/gateways/{id}", "gateway"),
            _create(
                "/sites/{site}/gateways", "gateway", "Create a gateway and its token.",
                Field("name", "its name; random by default"),
            ),
            _update("/sites/{site}/gateways/{id}", "gateway", "Rename a gateway.", _NEW_NAME),
            Verb(
                "drain", "Give a gateway nothing new; what it has goes on.", "PUT",
                "/wardgate/sites/{site}/gateways/{id}/drain", is_versioned=True,
            ),
            Verb(
                "undrain", "Use a gateway again.", "PUT", "/wardgate/sites/{site}/gateways/{id}/undrain",
                is_versioned=True,
            ),
            _delete("/sites/{site}/gateways/{id}", "Delete a gateway with its tokens; it is disconnected."),
        ),
        columns=("id", "name", "ipv4", "online", "is_draining", "last_seen_version", "last_seen_at", "rotated_at"),
    ),
    Noun(
        "gateway-tokens", "gateway token", "Tokens of gateways, and of whole sites.",
        (
            Verb(
                "create", "Create a token for a gateway that has none.", "POST",
                "/sites/{site}/gateways/{gateway}/token",
            ),
            Verb(
                "rotate", "Replace a gateway's token; the old one works until the new one is used, or for four hours.",
                "POST", "/sites/{site}/gateways/{gateway}/token/rotate",
            ),
            Verb(
                "create-for-site", "Create a token that any gateway of the site may use (deprecated).", "POST",
                "/sites/{site}/gateway_tokens",
            ),
            _delete(
                "/sites/{site}/gateway_tokens/{id}", "Delete a token; gateways that use it are disconnected.",
                is_versioned=False,
            ),
            _delete_all("/sites/{site}/gateway_tokens", "Delete all tokens that were made for a site as a whole."),
        ),
        columns=("id",),
        named_by=(),
    ),
    Noun(
        "resources", "resource", "What policies grant access to.",
        (
            _list(
                "/resources", "List resources.", _BY_NAME,
                Field(
                    "type", "only those of this type",
                    choices=("cidr", "ip", "dns", "static_device_pool", "device_pool"),
                ),
                Field("site_id", "only those of this site", _ID, noun="sites"),
                Field("address", "only those with exactly this address"),
                Field("ip_stack", "only those with this IP stack", choices=_IP_STACKS),
            ),
            _show("/resources/{id}", "resource"),
            _create(
                "/resources", "resource", "Create a resource.", _NEW_NAME,
                Field("type", "what it is", choices=_RESOURCE_TYPES[:3], is_required=True),
                Field("site_id", "site whose gateways reach it", _ID, noun="sites", is_required=True),
                *_RESOURCE_FIELDS,
            ),
            _update(
                "/resources/{id}", "resource", "Change a resource; omitted fields stay as they are.", _NAME,
                Field("type", "what it is", choices=_RESOURCE_TYPES),
                Field("site_id", "site whose gateways reach it", _ID, noun="sites"),
                *_RESOURCE_FIELDS,
            ),
            _delete("/resources/{id}", "Delete a resource with its policies."),
        ),
        columns=("id", "name", "type", "address", "site_id", "filters"),
    ),
    Noun(
        "device-pools", "device pool", "Sets of clients that other clients reach.",
        (
            _list("/wardgate/device_pools", "List device pools.", _BY_NAME),
            _show("/wardgate/device_pools/{id}", "device pool"),
            _create(
                "/wardgate/device_pools", "device_pool", "Create a device pool.", _NEW_NAME,
                Field(
                    "type", "its members are listed, or found by host name",
                    choices=("static_device_pool", "dynamic_device_pool", "device_pool"), is_required=True,
                ),
                *_POOL_FIELDS,
            ),
            _update(
                "/wardgate/device_pools/{id}", "device_pool", "Change a device pool; omitted fields stay as they are.",
                _NAME, *_POOL_FIELDS,
            ),
            _delete("/wardgate/device_pools/{id}", "Delete a device pool with its policies."),
        ),
        columns=("id", "name", "type", "address", "filters"),
    ),
    Noun(
        "pool-members", "pool member", "The clients of a device pool.",
        (
            _list("/resources/{resource}/pool_members", "List the clients of a pool.", is_versioned=True),
            *_listed_ids("/resources/{resource}/pool_members", "pool_members", "device_id", "clients", "clients"),
        ),
        columns=("id", "name", "last_seen_at"),
        named_by=(),
    ),
    Noun(
        "policies", "policy", "Which group may use which resource, and under what conditions.",
        (
            _list(
                "/policies", "List policies.",
                Field("group_id", "only those for a group", _ID, noun="groups"),
                Field("resource_id", "only those for a resource", _ID, noun="resources"),
            ),
            _show("/policies/{id}", "policy"),
            _create(
                "/policies", "policy", "Grant a group access to a resource.",
                Field("group_id", "group that gets access", _ID, noun="groups", is_required=True),
                Field("resource_id", "resource that it gets access to", _ID, noun="resources", is_required=True),
                *_POLICY_FIELDS,
                Field("is_disabled", "grants nothing until it is enabled", _FLAG),
            ),
            _update(
                "/policies/{id}", "policy", "Change a policy; omitted fields stay as they are.",
                Field("group_id", "group that gets access", _ID, noun="groups"),
                Field("resource_id", "resource that it gets access to", _ID, noun="resources"),
                *_POLICY_FIELDS,
                Field("is_disabled", "grants nothing", _FLAG),
            ),
            _delete("/policies/{id}", "Delete a policy; access that it granted ends at once."),
        ),
        columns=("id", "group_id", "resource_id", "description", "is_disabled", "conditions"),
        named_by=(),
    ),
    *_PROVIDERS,
    Noun(
        "logs", "log entry", "Log streams: changes, sessions, flows and API requests.",
        (
            _list(
                "/logs", "List the entries of a stream, newest first.", *_LOG_FILTERS,
                columns=(
                    "log_id", "timestamp", "object", "operation", "context", "method", "path",
                    "initiator_actor_name", "resource_name", "inner_domain", "rx_bytes", "tx_bytes",
                    "subject.actor_name", "subject.ip", "ip",
                ),
            ),
            _show("/logs/{log_id}", "entry", is_versioned=False),
            Verb(
                "export", "Print all entries of a stream as JSON Lines, newest first.", "GET",
                "/wardgate/logs/export", Answer.LINES, filters=_LOG_FILTERS,
            ),
        ),
        named_by=(),
    ),
    Noun(
        "decisions", "decision", "Every answer to an access request, with its explanation.",
        (
            _list(
                "/wardgate/decisions", "List decisions, newest first.",
                Field("actor_id", "only those about this actor", _ID, noun="actors"),
                Field("client_id", "only those about this client", _ID, noun="clients"),
                Field("resource_id", "only those about this resource", _ID, noun="resources"),
                Field("outcome", "only those with this outcome", choices=("granted", "denied")),
                Field("begin", "from when: a time, or how long ago (24h)", Kind.PAST_INSTANT),
                Field("end", "until this time, inclusive", Kind.PAST_INSTANT),
            ),
            _show("/wardgate/decisions/{log_id}", "decision", is_versioned=False),
        ),
        columns=("log_id", "timestamp", "outcome", "reason", "actor_name", "resource_name", "expires_at"),
        named_by=(),
    ),
    Noun(
        "accounts", "account", "The accounts of the installation (operator's token).",
        (
            _list(
                "/wardgate/accounts", "List accounts.", Field("slug", "only the one with this short name"), _BY_NAME
            ),
            _show("/wardgate/accounts/{id}", "account"),
            _create(
                "/wardgate/accounts", "account",
                "Create an account with its first administrator, a link to sign in and an API token.",
                _NEW_NAME,
                Field("slug", "its short name in URLs", is_required=True),
                Field("admin_email", "of its first administrator", is_required=True),
                Field("legal_name", "of the organisation; by default its name"),
                *_ACCOUNT_FIELDS,
            ),
            _update(
                "/wardgate/accounts/{id}", "account", "Change an account; omitted fields stay as they are.",
                _NAME,
                Field("slug", "its short name in URLs"),
                Field("legal_name", "of the organisation"),
                *_ACCOUNT_FIELDS,
                Field("is_disabled", "clients, gateways and API tokens are refused", _FLAG),
                Field("disabled_reason", "why"),
            ),
            Verb(
                "schedule-deletion", "Disable an account now, and delete it in seven days.", "POST",
                "/wardgate/accounts/{id}/deletion", body=Body.FIELDS, wrapper="deletion", fields=(_TYPED_SLUG,),
            ),
            Verb(
                "cancel-deletion", "Cancel the deletion and enable the account.", "DELETE",
                "/wardgate/accounts/{id}/deletion", is_versioned=True,
            ),
        ),
        columns=("id", "slug", "name", "is_disabled", "scheduled_deletion_at"),
        named_by=("slug", "name"),
        filtered_by=("slug", "name"),
        is_operators=True,
    ),
    Noun(
        "api-clients", "API client", "Programs that call the API on behalf of an account (operator's token).",
        (
            _list(f"{_API_CLIENTS}", "List API clients.", _BY_NAME),
            _show(f"{_API_CLIENTS}/{{id}}", "API client"),
            _create(
                _API_CLIENTS, "api_client", "Create an API client; give it a token with api-tokens create.", _NEW_NAME,
                Field("is_disabled", "its tokens are refused", _FLAG),
            ),
            _update(
                f"{_API_CLIENTS}/{{id}}", "api_client", "Change an API client.", _NAME,
                Field("is_disabled", "its tokens are refused", _FLAG),
            ),
            _delete(f"{_API_CLIENTS}/{{id}}", "Delete an API client with its tokens."),
        ),
        columns=("id", "name", "is_disabled", "inserted_at"),
        is_operators=True,
    ),
    Noun(
        "api-tokens", "API token", "Tokens of API clients (operator's token).",
        (
            _list(f"{_API_CLIENTS}/{{api_client}}/tokens", "List an API client's tokens, newest first."),
            _show(f"{_API_CLIENTS}/{{api_client}}/tokens/{{id}}", "API token"),
            _create(
                f"{_API_CLIENTS}/{{api_client}}/tokens", "api_token", "Create a token for an API client.", _NEW_NAME,
                Field(
                    "expires_at", "until when: a time, or how long from now (90d)", Kind.INSTANT, is_required=True
                ),
            ),
            _update(
                f"{_API_CLIENTS}/{{api_client}}/tokens/{{id}}", "api_token", "Change a token.", _NAME,
                Field("expires_at", "until when: a time, or how long from now (90d)", Kind.INSTANT),
            ),
            _delete(
                f"{_API_CLIENTS}/{{api_client}}/tokens/{{id}}",
                "Delete a token; the next call with it is refused.",
            ),
        ),
        columns=("id", "name", "expires_at", "last_seen_at", "last_seen_remote_ip"),
        filtered_by=(),
        is_operators=True,
    ),
    Noun(
        "banners", "banner", "Messages that every page shows (operator's token).",
        (
            _list("/wardgate/banners", "List banners."),
            _show("/wardgate/banners/{id}", "banner"),
            _create(
                "/wardgate/banners", "banner", "Show a message on every page.",
                Field("message", "what it says", is_required=True),
                Field(
                    "color", "how it looks; warning by default",
                    choices=("warning", "info", "error", "success", "announcement"),
                ),
            ),
            _delete("/wardgate/banners/{id}", "Delete a banner."),
        ),
        columns=("id", "color", "message"),
        named_by=(),
        is_operators=True,
    ),
    Noun(
        "relay-tokens", "relay token", "Tokens of relays (operator's token).",
        (
            _list("/wardgate/relay_tokens", "List relay tokens."),
            _show("/wardgate/relay_tokens/{id}", "relay token"),
            _create("/wardgate/relay_tokens", "relay_token", "Create a token for a relay.", _NEW_NAME),
            Verb(
                "rotate", "Replace a relay's token; the old one stops working at once.", "POST",
                "/wardgate/relay_tokens/{id}/rotate",
            ),
            _delete("/wardgate/relay_tokens/{id}", "Delete a token; relays that use it are disconnected."),
        ),
        columns=("id", "name", "inserted_at"),
        filtered_by=(),
        is_operators=True,
    ),
    Noun(
        "relays", "relay", "Relays that are connected now (operator's token).",
        (_list("/wardgate/relays", "List connected relays."),),
        columns=("id", "name", "ipv4", "ipv6", "port", "connected_at"),
        named_by=(),
        is_operators=True,
    ),
    Noun(
        "jobs", "job", "The portal's background work (operator's token).",
        (
            _list(
                "/wardgate/jobs", "List jobs, newest first; finished ones are kept for a while.",
                Field(
                    "state", "only those in this state",
                    choices=("available", "executing", "completed", "discarded"),
                ),
            ),
        ),
        columns=("id", "kind", "state", "attempt", "run_at", "finished_at", "last_error"),
        named_by=(),
        is_operators=True,
    ),
    Noun(
        "health", "health", "How the portal's process is doing (operator's token).",
        (_show("/wardgate/health", "portal's health", is_versioned=False),),
        named_by=(),
        is_operators=True,
    ),
)  # fmt: skip
"""In the order of help and documents."""


def noun_named(name: str) -> Noun | None:
    return next((noun for noun in NOUNS if noun.name == name), None)


def _completed(verb: Verb) -> Verb:
    return replace(verb, fields=(*verb.fields, *DESCRIBED.get(Verb.key(verb.method, verb.path), ())))


NOUNS: Final = tuple(replace(noun, verbs=tuple(map(_completed, noun.verbs))) for noun in DECLARED)
