"""How clients are looked for, on their own page and wherever one is chosen."""

from typing import Final

from wardgate.portal.devices.tables import DEVICES
from wardgate.portal.people.tables import ACTORS
from wardgate.portal.web.filters import Related, Search

CLIENT_SEARCH: Final = Search(
    label="Client or owner",
    columns=(DEVICES.c.name,),
    related=(Related(DEVICES.c.actor_id, ACTORS, (ACTORS.c.name, ACTORS.c.email)),),
)
