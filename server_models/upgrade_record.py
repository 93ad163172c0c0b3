"""``upgrade.json`` beside a cloud model's weights: which old model it was made compatible with."""

from pydantic import BaseModel, ConfigDict, ValidationError

from compat.errors import CorruptError
from compat.files import read_bounded, write_atomic
from compat.manifest import Digest
from compat.wire import canonical_json
from server_models.config import UpgradeConfig
from server_models.run_folder import RunFolder

MAX_RECORD_BYTES = 2**20
RECORD = "upgrade.json"


class UpgradeRecord(BaseModel):
    """Stands between the weights and `kinspace train`, which would train without constraint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    old_release: str
    old_digest: Digest  # of its weights or its table
    inputs_digest: Digest  # of what else decides the cloud model
    upgrade: UpgradeConfig


def write_record(folder: RunFolder, record: UpgradeRecord) -> None:
    write_atomic(folder.path / RECORD, canonical_json(record.model_dump(mode="json")))


def read_record(folder: RunFolder) -> UpgradeRecord | None:
    """None for a cloud model that was trained without constraint."""
    path = folder.path / RECORD
    if not path.exists():
        return None
    try:
        return UpgradeRecord.model_validate_json(read_bounded(path, MAX_RECORD_BYTES))
    except ValidationError as error:
        raise CorruptError(f"{path} is damaged: run kinspace upgrade again") from error
