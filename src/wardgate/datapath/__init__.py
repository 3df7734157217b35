"""The Python face of the packet engines: typed commands in, typed events out."""
