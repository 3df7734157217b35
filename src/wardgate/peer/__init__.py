"""What relay, gateway and client processes share: the portal connection and the driver of a tunnel endpoint."""
