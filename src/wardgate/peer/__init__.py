"""What the peers' processes share: the connection to the portal and the driver of a tunnel endpoint."""
