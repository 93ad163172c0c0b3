"""The JSON Schema of reports, as published in docs/schema/report-1.json."""

from compat.report import Report
from compat.wire import canonical_json


def schema_bytes() -> bytes:
    """What the published file must hold: the schema of what `Report.to_bytes` writes."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return canonical_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


if __name__ == "__main__":
    print(schema_bytes().decode(), end="")
