"""Measurements beside peers, in the lab; `make bench`."""
