"""Sites: the gateways that stand together and the resources that they reach."""
