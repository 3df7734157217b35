"""DNS on the client: the resolver behind the sentinel addresses, sans-IO (data-plane §4.5–4.8)."""
