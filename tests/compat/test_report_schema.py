"""The published schema is the one that the code means."""

import json
from pathlib import Path

from compat.report_schema import schema_bytes

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "report-1.json"


def test_the_published_schema_is_current():
    """Write it anew when the report changed: PUBLISHED.write_bytes(schema_bytes())."""
    assert PUBLISHED.read_bytes() == schema_bytes()


def test_the_schema_speaks_of_what_is_written():
    schema = json.loads(schema_bytes())
    artifact = schema["$defs"]["ArtifactEvidence"]
    assert "overlap@10" in artifact["required"]
    assert "hit_rate@10" in schema["$defs"]["Retrieval"]["required"]
    assert schema["properties"]["format"]["const"] == 1
