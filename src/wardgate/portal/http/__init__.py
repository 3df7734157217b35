"""What REST, pages and control channels have in common as servers of HTTP; none of them is known here.

asgi              the types of an ASGI application
headers           reading a request's headers, writing an answer's
origin            where a request comes from, past trusted proxies
rate_limit        token buckets
security_headers  what browsers are told to insist on
session_cookie    the signed cookie of a signed-in browser
"""
