"""The repository of external identities."""

import itertools
from collections.abc import Sequence

from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.people.tables import ExternalIdentity
from wardgate.portal.schema.declaration import Removal
from wardgate.portal.sign_in.tables import IDENTITY_PROVIDERS


class ExternalIdentityRepository(TenantRepository[ExternalIdentity]):
    """Identities; with one goes what its actor holds by sign-ins at the same issuer (portal-domain §8.4)."""

    async def _delete_slice(self, rows: Sequence[ExternalIdentity]) -> None:
        await super()._delete_slice(rows)
        tables = self._transaction.of(self._account_id)
        for row, declaration in itertools.product(rows, IDENTITY_PROVIDERS):
            providers = tables.by_name(declaration.name)
            for provider in await providers.load_all(providers.c.issuer == row.issuer):
                held_by_it = {"actor_id": row.actor_id, "auth_provider_id": provider.id}
                await tables.remove(Removal("client_tokens", held_by_it))
                await tables.remove(Removal("portal_sessions", held_by_it))

    @property
    def cascades(self) -> bool:
        return True
