"""The REST API (docs/rest.md): `build` makes the application."""

from wardgate.portal.rest.application import build

__all__ = ["build"]
