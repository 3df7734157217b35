"""What the operator runs: accounts with their settings, jobs, relays and banners."""
