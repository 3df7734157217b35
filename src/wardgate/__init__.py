"""Wardgate: a zero-trust access platform that an organisation runs itself."""

__version__ = "0.1.0"
