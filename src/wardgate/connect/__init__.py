"""Decisions around the engine's connections, pure: relays, requests, held candidates, reconnection, why a path is relayed."""
