"""The REST API (docs/rest.md): `build` makes the application, `SEGMENTS` are the first path segments it serves."""

from wardgate.portal.rest.application import SEGMENTS, build

__all__ = ["SEGMENTS", "build"]
