"""The pages of an account and of the operator, in the order of the navigation within each section."""

from typing import Final

from wardgate.portal.access.pages import device_pools, explain, policies, resources
from wardgate.portal.devices import pages as clients
from wardgate.portal.devices import topology_page as topology
from wardgate.portal.installation import operator
from wardgate.portal.installation import pages as installation
from wardgate.portal.installation import settings_pages as settings
from wardgate.portal.logs import pages as logs
from wardgate.portal.people.pages import actors, groups, profile, service_accounts
from wardgate.portal.sign_in import api_clients_page as api_clients
from wardgate.portal.sign_in import providers_page
from wardgate.portal.sites import pages as sites
from wardgate.portal.web import first_steps, overview
from wardgate.portal.web.page import Page

PAGES: Final[tuple[Page, ...]] = (
    overview.PAGE,
    first_steps.PAGE,
    resources.PAGE,
    device_pools.PAGE,
    groups.PAGE,
    policies.PAGE,
    explain.PAGE,
    sites.PAGE,
    actors.PAGE,
    service_accounts.PAGE,
    clients.PAGE,
    topology.PAGE,
    *logs.PAGES,
    providers_page.PAGE,
    installation.PAGE,
    settings.NAMES,
    settings.DNS,
    settings.SECOND_FACTORS,
    settings.NOTIFICATIONS,
    api_clients.PAGE,
    profile.PAGE,
)

OPERATOR_PAGES: Final = operator.PAGES
"""The pages of the operator."""
