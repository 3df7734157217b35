"""A gateway: lets granted clients reach the resources of its site."""
