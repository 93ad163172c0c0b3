"""Make the signed release of the present format: ``python -m tests.golden.make``, once a format.

The clock of its signatures stands in 2126, so that they hold for good, and the keys are thrown
away: nobody can sign anything else that this root trusts. What no reader asks for is left out.
"""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from tiles import SPACE  # noqa: E402
from tiles_release import candidate_in  # noqa: E402

from compat.errors import UsageError  # noqa: E402
from compat.manifest import ReleaseManifest  # noqa: E402
from registry.keys import KeyFolder  # noqa: E402
from registry.publish import publish  # noqa: E402
from registry.repository import TIMESTAMP, Repository  # noqa: E402

SIGNED_AT = datetime(2126, 1, 1, tzinfo=UTC)


def make(folder: Path) -> None:
    """Publish the tiles and keep in ``folder`` what the timestamp leads to."""
    if folder.exists():
        raise UsageError(f"{folder} is kept for good: a new format gets a new folder")
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        keys = KeyFolder(root / "keys")
        repository = Repository(root / "registry", keys, now=lambda: SIGNED_AT)
        repository.create()
        repository.add_family(SPACE.family)
        publish(repository, candidate_in(root))
        state = repository.state
        roles = {role: each.signed.version for role, each in state.targets.items()}
        roles |= {"root": 1, "snapshot": state.snapshot.signed.version}
        named = {f"metadata/{version}.{role}.json" for role, version in roles.items()}
        targets = set(repository.store.list("targets/"))
        for name in sorted({TIMESTAMP, *named, *targets}):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / "registry" / name, folder / name)


if __name__ == "__main__":
    make(HERE / f"format-{ReleaseManifest.model_fields['format'].default}")
