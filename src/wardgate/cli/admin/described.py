"""Members of request bodies for which the command line needs no other words than the API's document.

Written by `make openapi`.
"""

from collections.abc import Mapping
from typing import Final

from wardgate.cli.admin.vocabulary import Field, Kind

DESCRIBED: Final[Mapping[str, tuple[Field, ...]]] = {
    "PATCH /wardgate/accounts/{}": (
        Field("is_locked", "administrators cannot change settings or delete the account", Kind.FLAG),
    ),
    "PATCH /wardgate/accounts/{}/okta_auth_providers/{}": (Field("okta_domain", "such as example.okta.com"),),
    "POST /wardgate/accounts/{}/okta_auth_providers": (
        Field("okta_domain", "such as example.okta.com", is_required=True),
    ),
    "POST /wardgate/accounts/{}/okta_auth_providers/{}/verification": (
        Field("okta_domain", "such as example.okta.com"),
    ),
}
