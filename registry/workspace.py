"""Where a family's work lies, and which stages are done: killed anywhere, it goes on from there."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat.errors import CorruptError
from compat.files import digest_of, read_bounded, write_atomic
from compat.wire import canonical_json

MAX_STAMP_BYTES = 2**16


@dataclass(frozen=True)
class Workspace:
    """One folder a family."""

    root: Path

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def report_json(self) -> Path:
        return self.root / "report" / "report.json"

    @property
    def report_html(self) -> Path:
        return self.root / "report" / "report.html"

    @property
    def flip_strips(self) -> Path:
        return self.root / "report" / "flips.json"

    @property
    def report_markdown(self) -> Path:
        return self.root / "report" / "report.md"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def gallery(self) -> Path:
        return self.root / "gallery"

    @property
    def device(self) -> Path:
        return self.root / "device"

    @property
    def upgrade(self) -> Path:
        return self.root / "upgrade"

    @property
    def contact_sheet(self) -> Path:
        return self.root / "report" / "contact_sheet.png"

    def once(self, stage: str, inputs: object, work: Callable[[], None]) -> bool:
        """Do ``work`` unless ``stage`` was finished with equal ``inputs``; True when done now.

        The stamp is written last, so a stage that was cut off is done again; every stage is safe to
        repeat.
        """
        if self.is_done(stage, inputs):
            return False
        started = time.monotonic()
        work()
        seconds = round(time.monotonic() - started, 1)
        key = digest_of(canonical_json(inputs))
        stamp = {"stage": stage, "key": key, "seconds": seconds}
        write_atomic(self._stamps / f"{stage}.json", canonical_json(stamp))
        return True

    def is_done(self, stage: str, inputs: object) -> bool:
        """Whether ``stage`` was finished with equal ``inputs``."""
        stamp = self._stamps / f"{stage}.json"
        return stamp.exists() and _read_stamp(stamp).get("key") == digest_of(canonical_json(inputs))

    def stage_seconds(self) -> dict[str, float]:
        """How long each finished stage took, when it was done."""
        stamps = [_read_stamp(stamp) for stamp in sorted(self._stamps.glob("*.json"))]
        return {stamp["stage"]: stamp["seconds"] for stamp in stamps}

    @property
    def _stamps(self) -> Path:
        return self.root / "stages"


def _read_stamp(path: Path) -> dict[str, Any]:
    try:
        stamp: dict[str, Any] = json.loads(read_bounded(path, MAX_STAMP_BYTES))
    except json.JSONDecodeError as error:
        raise CorruptError(f"{path} is damaged: remove it, the stage is done again") from error
    return stamp
