"""Clients and gateways, and the clients that are members of device pools."""
