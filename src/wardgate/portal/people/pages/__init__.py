"""The pages of who is in an account: groups, people, service accounts."""
