"""The policy engine: (snapshot, request, now) → decision, with its explanation. Pure.

snapshot      the frozen facts of an account, indexed
evaluation    one policy's conditions against one connection's facts
engine        the decision, and what a client is shown
selection     which gateway, which relays
explanation   the same evaluation, rendered for people and programs
"""
