"""What the processes of relay, gateway and client share: the connection to the portal, and the driver of a tunnel's end."""
