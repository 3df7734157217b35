"""Write the API's OpenAPI document to docs/openapi.json; a test compares the file with what is served."""

import json
from pathlib import Path

from wardgate.portal.rest.application import openapi

TARGET = Path(__file__).parent.parent / "docs" / "openapi.json"

if __name__ == "__main__":
    TARGET.write_text(json.dumps(openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n")
