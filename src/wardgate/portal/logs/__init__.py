"""What happened: changes, decisions, API requests, sessions, flows."""
