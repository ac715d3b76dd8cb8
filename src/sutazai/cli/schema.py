"""Why it exists: an editor that has the manifest's JSON Schema marks mistakes while they are typed."""

from __future__ import annotations

from sutazai.cli.exits import OK
from sutazai.cli.output import print_json


def run() -> int:
    """Print the JSON Schema (draft 2020-12) of the manifest, for editors.

    Example: sutazai schema > sutazai.schema.json
    """
    from sutazai.spec.schema import json_schema

    print_json(json_schema())
    return OK
