"""Pure decisions about the engine's connections: candidates, relays, requests, deadlines, path reasons."""
