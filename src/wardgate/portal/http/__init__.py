"""What REST, pages and control channels share as HTTP servers; this package knows none of them.

asgi              the types of an ASGI application
headers           reading a request's headers, writing an answer's
origin            where a request comes from, past trusted proxies
rate_limit        token buckets
security_headers  headers by which browsers protect their users
signed_cookie     cookies that the portal alone can write
visitor_forms     forms of browsers that have no session
"""
