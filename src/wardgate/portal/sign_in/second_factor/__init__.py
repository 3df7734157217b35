"""The second factor of who signs in by a code sent by e-mail or by a password: an authenticator app, a passkey, or a
recovery code. Identity providers ask for their own.
"""
