"""Who there is in an account: actors, groups, memberships, identities at providers and directories."""
