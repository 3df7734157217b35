"""The operating system as gateway, client and relay use it: adapters, each replaceable by a fake."""
