"""The whole system in one process on virtual time from one seed.

Real portal, policy engine, peers' machines and packet engines; simulated are only the clock, the network
between hosts and the people. `story` tells the demo with it, tests/simulation throws dice with it.
"""
