"""Tables of the store (portal-domain §3), in SQL that SQLite and PostgreSQL both run.

Tenant tables have the composite key (account_id, id), and foreign keys inside a tenant are composite too, so that no row
can reference another tenant's. Foreign keys are RESTRICT: the repositories remove dependants themselves, so that each is known to
the transaction. There are no triggers and no defaults for time or randomness. `devices.gateway_token_id` has no foreign key:
it would close a circle with `gateway_tokens.device_id`, and the deletion map clears it all the same.
"""

from wardgate.portal.store.schema.access import (
    devices,
    gateway_tokens,
    policies,
    policy_authorizations,
    resources,
    sites,
    static_device_pool_members,
)
from wardgate.portal.store.schema.columns import LEAST, metadata
from wardgate.portal.store.schema.installation import (
    banners,
    email_suppressions,
    job_schedules,
    jobs,
    operator_tokens,
    outbound_email_deliveries,
    outbound_emails,
    relay_tokens,
)
from wardgate.portal.store.schema.logs import (
    FLOW_KEY,
    api_request_logs,
    change_counters,
    changes,
    decisions,
    flow_logs,
    idempotency_keys,
    session_logs,
)
from wardgate.portal.store.schema.people import (
    accounts,
    actors,
    external_identities,
    groups,
    memberships,
)
from wardgate.portal.store.schema.sign_in import (
    api_tokens,
    auth_providers,
    client_tokens,
    email_otp_auth_providers,
    entra_auth_providers,
    google_auth_providers,
    oidc_auth_providers,
    okta_auth_providers,
    one_time_passcodes,
    pending_identities,
    portal_sessions,
    sign_in_links,
    userpass_auth_providers,
)

__all__ = [
    "FLOW_KEY",
    "LEAST",
    "accounts",
    "actors",
    "api_request_logs",
    "api_tokens",
    "auth_providers",
    "banners",
    "change_counters",
    "changes",
    "client_tokens",
    "decisions",
    "devices",
    "email_otp_auth_providers",
    "email_suppressions",
    "entra_auth_providers",
    "external_identities",
    "flow_logs",
    "gateway_tokens",
    "google_auth_providers",
    "groups",
    "idempotency_keys",
    "job_schedules",
    "jobs",
    "memberships",
    "metadata",
    "oidc_auth_providers",
    "okta_auth_providers",
    "one_time_passcodes",
    "operator_tokens",
    "outbound_email_deliveries",
    "outbound_emails",
    "pending_identities",
    "policies",
    "policy_authorizations",
    "portal_sessions",
    "relay_tokens",
    "resources",
    "session_logs",
    "sign_in_links",
    "sites",
    "static_device_pool_members",
    "userpass_auth_providers",
]
