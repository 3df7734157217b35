"""The REST API (docs/rest.md): `application.build` makes the application.

This file imports nothing: views and routes of all domains import modules of this package, and the application imports
theirs.
"""
