"""Write the API's OpenAPI document to docs/openapi.json, and as 3.0 to docs/openapi-3.0.json; a test compares
the files with what is served.
"""

import json
from pathlib import Path

from wardgate.portal.rest.application import openapi
from wardgate.portal.rest.document import as_30

DOCS = Path(__file__).parent.parent / "docs"

if __name__ == "__main__":
    for name, document in (("openapi.json", openapi()), ("openapi-3.0.json", as_30(openapi()))):
        text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True)
        (DOCS / name).write_text(text + "\n")
