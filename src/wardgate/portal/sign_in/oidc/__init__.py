"""Signing in with OpenID Connect (identity §5 to §7, §11): authorization code with PKCE, for Google, Entra, Okta and
any other provider alike.

    relying_party    what the portal is to one provider: client, issuer, where its claims are
    discovery        the provider's document and keys, cached
    authorization    the way there: state, nonce, challenge; and what comes back
    id_token         signature and claims of the answer
    profile          who somebody is, from token and userinfo
    conversation     the steps after the callback, in order
    identities       which actor that is (no HTTP)
    verification     the trial sign-in that a provider passes before it can be used
    pages            the browser's part
"""
