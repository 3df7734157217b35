"""A running portal, in this process, with nothing but its sockets replaced."""
