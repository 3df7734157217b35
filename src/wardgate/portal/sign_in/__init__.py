"""How people and programs prove who they are: providers, tokens, sessions and sign-in links."""
