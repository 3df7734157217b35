"""The pages for people: `build` makes the application; it answers every path that nobody else does."""

from wardgate.portal.web.application import build

__all__ = ["build"]
