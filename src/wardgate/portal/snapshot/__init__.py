"""An account in memory: what decisions read, and what connections are told of it (design: portal-domain §5.1,
§8).

accounts      views of the accounts in use, kept current from the change feed
loading       an account's tables into a snapshot, in slices
entities      a row, or its image in the feed, as what the policy engine knows
audience      which connections a batch of changes is meant for
client_views  resources as clients are told of them, made once for all sessions
"""
