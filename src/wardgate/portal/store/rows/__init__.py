"""Rows as frozen values, one class a table, one field a column (portal-domain §3).

The repository stamps `inserted_at` and `updated_at`; callers leave them out. JSON columns are plain lists and dicts of the
shape that the specification gives them; `wardgate.model` parses them where they are used.
"""

from wardgate.portal.store.rows.access import (
    Device,
    GatewayToken,
    Policy,
    PolicyAuthorization,
    Resource,
    Site,
    StaticDevicePoolMember,
)
from wardgate.portal.store.rows.base import (
    UNSTAMPED_AT,
    Row,
    TenantRow,
)
from wardgate.portal.store.rows.installation import (
    Banner,
    EmailSuppression,
    Job,
    OperatorToken,
    OutboundEmail,
    OutboundEmailDelivery,
    RelayToken,
)
from wardgate.portal.store.rows.logs import (
    ApiRequest,
    Change,
    Decision,
    FlowLog,
    KeptAnswer,
    SessionLog,
)
from wardgate.portal.store.rows.people import (
    Account,
    Actor,
    ExternalIdentity,
    Group,
    Membership,
)
from wardgate.portal.store.rows.sign_in import (
    ApiToken,
    AuthProvider,
    AuthProviderDetails,
    ClientToken,
    EmailOtpAuthProvider,
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
    OneTimePasscode,
    PendingIdentity,
    PortalSession,
    SignInLink,
    UserpassAuthProvider,
)

__all__ = [
    "UNSTAMPED_AT",
    "Account",
    "Actor",
    "ApiRequest",
    "ApiToken",
    "AuthProvider",
    "AuthProviderDetails",
    "Banner",
    "Change",
    "ClientToken",
    "Decision",
    "Device",
    "EmailOtpAuthProvider",
    "EmailSuppression",
    "EntraAuthProvider",
    "ExternalIdentity",
    "FlowLog",
    "GatewayToken",
    "GoogleAuthProvider",
    "Group",
    "Job",
    "KeptAnswer",
    "Membership",
    "OidcAuthProvider",
    "OktaAuthProvider",
    "OneTimePasscode",
    "OperatorToken",
    "OutboundEmail",
    "OutboundEmailDelivery",
    "PendingIdentity",
    "Policy",
    "PolicyAuthorization",
    "PortalSession",
    "RelayToken",
    "Resource",
    "Row",
    "SessionLog",
    "SignInLink",
    "Site",
    "StaticDevicePoolMember",
    "TenantRow",
    "UserpassAuthProvider",
]
