"""What help shows of each noun and verb: an example that is worth reading, else one made of what the verb
needs."""

from typing import Final

from wardgate.cli.admin.vocabulary import OWN_ID, PARENTS, Body, Noun, Verb

_SOME_ID: Final = "5f2c1a9e-7d1b-4c55-9a55-0d3c2f1e8b77"
_NAMES: Final = {
    "accounts": "acme",
    "actors": "Grace",
    "api-clients": "terraform",
    "api-tokens": "ci",
    "clients": "laptop",
    "device-pools": "laptops",
    "gateways": "gw-1",
    "groups": "Operations",
    "relay-tokens": "relay-vienna",
    "resources": "shop",
    "sites": "Paris",
}
_NEW_NAME: Final = "Renamed"


def examples_of(noun: Noun, verb: Verb) -> tuple[str, ...]:
    """Return whole command lines."""
    start = f"wardgate admin {noun.name}"
    written = [text for text in EXAMPLES.get(noun.name, ()) if text.split()[0] == verb.name]
    return tuple(f"{start} {text}" for text in written or [_minimal_example(noun, verb)])


def _minimal_example(noun: Noun, verb: Verb) -> str:
    words = [verb.name]
    for placeholder in verb.placeholders:
        if placeholder in OWN_ID:
            words.append(_NAMES.get(noun.name, _SOME_ID))
        else:
            words += [f"--{placeholder.replace('_', '-')}", _NAMES[PARENTS[placeholder]]]
    if verb.elements:
        words.append(_NAMES[verb.elements])
    fields = [field for field in (*verb.fields, *verb.filters) if field.is_required]
    if verb.method == "PATCH" and verb.body is Body.FIELDS and not fields:
        fields = [verb.fields[0]]
    for field in fields:
        words += [field.flag, next(iter(field.choices), _NEW_NAME)]
    return " ".join(words)


EXAMPLES: Final = {
    "account-settings": (
        "update --search-domain corp.example.com --dns-type custom --dns-server 9.9.9.9",
        "schedule-deletion --slug acme",
    ),
    "actors": (
        "create --name Grace --type account_user --email grace@example.org",
        "update grace@example.org --disabled",
    ),
    "client-tokens": ("create --actor Grace --expires-at 30d", "delete-all --actor Grace --yes"),
    "external-identities": ("list --actor Grace",),
    "clients": (
        "verify laptop",
        "set-hostname laptop --hostname nas.lab.example",
        "list --name laptop --json",
    ),
    "offers": ("list --client laptop",),
    "groups": ("create --name Operations",),
    "members": (
        "add --group Operations grace@example.org Robot",
        "list --group Operations --etag",
        "replace --group Operations Grace --if-match '\"5f2c…\"' --yes",
    ),
    "sites": ("create --name Paris", "delete Paris --yes"),
    "gateways": ("create --site Paris --name gw-1", "list --site Paris", "drain gw-1 --site Paris"),
    "gateway-tokens": ("rotate --site Paris --gateway gw-1",),
    "resources": (
        "create --name shop --type dns --address shop.corp.example --site Paris --filter tcp:443,8000-8100",
        "update shop --filter tcp:443 --filter icmp",
    ),
    "pool-members": ("add --resource laptops laptop",),
    "policies": (
        "create --group Operations --resource shop --condition 'remote_ip is_in_cidr 10.0.0.0/8 192.0.2.0/24'",
        "list --resource shop",
        f"update {_SOME_ID} --description 'People on call' --disabled",
    ),
    "logs": (
        "list --type change --begin 24h --contains Operations",
        "export --type api_request",
        "show 66a1b2c3d4e5f60718293a4b",
    ),
    "decisions": ("list --actor Grace --outcome denied --begin 24h",),
    "accounts": (
        "create --name Globex --slug globex --admin-email hank@globex.example --limit-sites 3",
        "schedule-deletion globex --slug globex",
    ),
    "device-pools": (
        "create --name laptops --type static_device_pool",
        "create --name lab --type dynamic_device_pool --address '*.lab.example' --filter tcp:22",
    ),
    "api-clients": ("create --account acme --name terraform",),
    "api-tokens": ("create --account acme --api-client terraform --name ci --expires-at 90d",),
    "google-providers": (
        "create --account acme --name Google --client-id 123.apps.googleusercontent.com --client-secret S3CRET",
        "verify Google --account acme",
        "update Google --account acme --no-disabled --default",
    ),
    "entra-providers": (
        "create --account acme --name Entra --issuer https://login.microsoftonline.com/TENANT/v2.0"
        " --client-id CLIENT --client-secret S3CRET",
    ),
    "okta-providers": (
        "create --account acme --name Okta --okta-domain acme.okta.com --client-id wardgate"
        " --client-secret S3CRET",
    ),
    "oidc-providers": (
        "create --account acme --name Keycloak --client-id wardgate --client-secret S3CRET"
        " --discovery-document-uri https://sso.example.org/realms/acme/.well-known/openid-configuration",
    ),
    "banners": ("create --message 'Maintenance at 22:00' --color info",),
    "relay-tokens": ("create --name relay-vienna",),
    "jobs": ("list --state discarded",),
    "health": ("show --json",),
}
"""Noun → what one may write after it."""
