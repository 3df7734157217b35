"""What help shows of each noun."""

from typing import Final

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
    "gateways": ("create --site Paris --name gw-1", "list --site Paris"),
    "gateway-tokens": ("rotate --site Paris --gateway gw-1",),
    "resources": (
        "create --name shop --type dns --address shop.corp.example --site Paris --filter tcp:443,8000-8100",
        "update shop --filter tcp:443 --filter icmp",
    ),
    "pool-members": ("add --resource laptops laptop",),
    "policies": (
        "create --group Operations --resource shop --condition 'remote_ip is_in_cidr 10.0.0.0/8 192.0.2.0/24'",
        "list --resource shop",
    ),
    "logs": (
        "list --type change --begin 24h --contains Operations",
        "export --type api_request",
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
    "oidc-providers": (
        "create --account acme --name Keycloak --client-id wardgate --client-secret S3CRET"
        " --discovery-document-uri https://sso.example.org/realms/acme/.well-known/openid-configuration",
    ),
    "banners": ("create --message 'Maintenance at 22:00' --color info",),
    "relay-tokens": ("create --name relay-vienna",),
    "jobs": ("list --state discarded",),
    "health": ("show --json",),
}
"""Noun → what one may write after it; a test reads each."""
