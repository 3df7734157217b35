"""A headless client: carries its host's packets to the resources that the portal grants it."""
