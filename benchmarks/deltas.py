"""How many bytes an update costs a device that holds the release before.

    python -m benchmarks.deltas --demo runs/demo --anew runs/anew

The members of a finished demo are moved in two ways (`benchmarks.delta_family`), exported as they
would ship, and packed as a publisher packs them; what a device unpacks is compared with what was
exported. The third way is a second run with its members trained anew: the demo's TOML with another
seed, `kinspace train` and `kinspace export`.

Writes benchmarks/results/deltas.md and .json. Exit 1 when a bar is missed: of edge-m, the member
that the demo ships, embedding layer only at most 7% of the file, a gentle fine-tune in int8 at most
25%. Training takes minutes; killed, it goes on from there.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.data.cache import cache_folder
from benchmarks.delta_family import DEMO_TOML, Update, exported, updates_of
from benchmarks.tables import publish_table
from compat.delta import pack_hdiff, pack_tensors, pack_whole, unpack
from compat.files import digest_of
from compat.manifest import Blob
from registry.candidate import CandidateFolder
from registry.tensor_layout import segments_of
from server_models.config import read_family

BARS = {("head-only", "fp32"): 0.07, ("head-only", "int8"): 0.07, ("gentle", "int8"): 0.25}
SHIPS = "edge-m"
TITLE = "Bytes of an update"
Row = dict[str, object]


def rows_of(member: str, update: Update, old: CandidateFolder, new: CandidateFolder) -> list[Row]:
    """One row for each exported file."""
    return [row_of(member, update, old, new, i) for i in range(len(new.read().artifacts))]


def row_of(member: str, update: Update, old: CandidateFolder, new: CandidateFolder, i: int) -> Row:
    """The file's bytes, and the share of them that each way costs."""
    artifact = new.read().artifacts[i]
    base, result = old.blob(old.read().artifacts[i]), new.blob(artifact)
    packed = {
        "tensors": pack_tensors(base, result, segments_of(base, result, artifact.runtime)),
        "hdiff": pack_hdiff(base, result),
        "compressed": pack_whole(result),
    }
    promised = Blob(digest=digest_of(result), size_bytes=len(result))
    for name, blob in packed.items():
        if unpack(blob, None if name == "compressed" else base, result=promised) != result:
            raise RuntimeError(f"{name} of {artifact.label} did not come back")
    shares = {name: len(blob) / len(result) for name, blob in packed.items()}
    best = min(shares.values())
    bar = BARS.get((update.name, artifact.precision)) if member == SHIPS else None
    return {
        "member": member,
        "update": update.title,
        "file": artifact.label,
        "bytes": len(result),
        **shares,
        "delta / full": best,
        "bar": bar,
        "within": None if bar is None else best <= bar,
    }


def moved(old: CandidateFolder, new: CandidateFolder) -> float:
    """Mean cosine of the held-out queries' embeddings before and after the update."""
    before, after = old.reference(), new.reference()
    if before is None or after is None:
        raise RuntimeError("a member was exported without its reference embeddings")
    return float(np.mean(np.sum(before * after, axis=1)))


def main(
    demo: Annotated[Path, typer.Option(help="a finished demo")] = Path("runs/demo"),
    anew: Annotated[Path, typer.Option(help="another, of members trained anew")] = Path(
        "runs/anew"
    ),
    work: Annotated[Path | None, typer.Option(help="where updates are trained")] = None,
    only: Annotated[str | None, typer.Option(help="one member; default all of the demo")] = None,
) -> None:
    """Print and write the table of bytes."""
    folder = work or cache_folder() / "runs" / "deltas"
    config = read_family(DEMO_TOML)
    rows: list[Row] = []
    cosines, left_out = [], []
    for member in (each for each in config.members if only in (None, each.name)):
        weights = (demo / "models" / member.name / "weights.safetensors").resolve()
        old = CandidateFolder(demo / "artifacts" / member.name)
        updates = {
            update: exported(update, config, demo=demo, work=folder)
            for update in updates_of(member, weights)
        }
        again = Update("retrained", "trained anew", member)
        if (anew / "artifacts" / member.name).is_dir():
            updates[again] = CandidateFolder(anew / "artifacts" / member.name)
        else:
            left_out.append(member.name)
        for update, new in updates.items():
            cosines.append(f"{member.name}, {update.title}: {moved(old, new):.3f}")
            rows += rows_of(member.name, update, old, new)
    notes = (
        "Share of the file's bytes that a device fetches which holds the release before; "
        "`tensors` and `hdiff` are the two kinds of delta, the planner takes the smallest.",
        f"Mean cosine of held-out queries, before and after: {'; '.join(cosines)}.",
        "kin-s of edge-s has 40% of its weights in the embedding layer, the network of edge-m 5%: "
        "the bars are for edge-m, which ships.",
        *([f"Members other than {only} were left out of this run."] if only else []),
        *(f"{name} was not trained anew for this run." for name in left_out),
    )
    publish_table("deltas", TITLE, rows, notes=notes)
    if any(row["within"] is False for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
