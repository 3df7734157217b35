"""The control plane: store, policy decisions, control channels, REST and web, in one process."""
