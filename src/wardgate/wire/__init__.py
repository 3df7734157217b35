"""The control protocol: framing, typed messages, the peer's end of the channel, tokens and derived secrets.

Both ends share it. It knows no socket, clock or random source; names of the wire are kept letter for letter here
and mapped once.
"""
