"""The commands' way to the REST API: where it is, with what token, and how its refusals are told to people."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from wardgate.cli.errors import UserError
from wardgate.cli.portal_settings import Profile, data_dir_of
from wardgate.cli.settings import Settings

TIMEOUT_S = 30.0


def find_profile(url: str | None, token: str | None, config: Path | None = None) -> Profile:
    """Find address and token: flags, `WARDGATE_URL` and `WARDGATE_TOKEN`, then the profile file of `wardgate init`.

    Raises:
        UserError: neither place has them.
    """
    settings = Settings.load("rest", os.environ, config)
    found_url, found_token = settings.text("url", url, None), settings.secret("token", token, None)
    stored: Profile | None = None
    if found_url is None or found_token is None:
        stored = Profile.load(Profile.path(settings, data_dir_of(settings, None)))
    if stored is not None:
        found_url, found_token = found_url or stored.url, found_token or stored.token
    if found_url is None or found_token is None:
        raise UserError(
            "where is the portal, and with what token? Set WARDGATE_URL and WARDGATE_TOKEN, or run `wardgate init`"
        )
    return Profile(found_url.rstrip("/"), found_token)


def get(profile: Profile, path: str, query: Mapping[str, str]) -> Any:
    """GET a path and return the `data` of the answer.

    Raises:
        UserError: the portal cannot be reached, or refuses.
    """
    try:
        response = httpx2.get(
            f"{profile.url}{path}",
            params=dict(query),
            headers={"Authorization": f"Bearer {profile.token}"},
            timeout=TIMEOUT_S,
        )
        answer = response.json() if "json" in response.headers.get("content-type", "") else {}
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise UserError(f"cannot reach the portal at {profile.url}: {error}") from error
    if response.status_code != 200:
        detail = answer.get("detail") or answer.get("title") or response.reason_phrase
        raise UserError(f"{profile.url} answered {response.status_code}: {detail}")
    if "data" not in answer:
        raise UserError(f"{profile.url} does not answer like a Wardgate portal")
    return answer["data"]
