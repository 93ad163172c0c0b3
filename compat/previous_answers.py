"""What the previous release finds for the queries that this one is judged on."""

from collections.abc import Sequence
from dataclasses import dataclass

from compat.errors import UsageError
from compat.evidence import EvidenceSet, Progress, decode_all, silent
from compat.previous import Answers
from compat.space import EmbeddingSpace
from compat.survey import survey
from compat.verification import Subject, embed_side


@dataclass(frozen=True)
class PreviousRelease:
    """Its gallery model and every artifact of its members, with the embedders that ship."""

    space: EmbeddingSpace
    cloud: Subject
    members: tuple[Subject, ...]

    @property
    def digests(self) -> list[str]:
        """All that decides what it answers."""
        return [self.space.id, *(each.digest for each in (self.cloud, *self.members))]

    def answers(
        self, evidence: EvidenceSet, labels: Sequence[str], progress: Progress = silent
    ) -> dict[str, Answers]:
        """By label, of those artifacts whose label is in ``labels``, in its own cloud's gallery.

        Raises:
            UsageError: it has none of them. Remedy: the release that those devices run now.
            RefusedError: what it embeds cannot be compared at all.
        """
        kept = [each for each in self.members if each.label in labels]
        if not kept:
            raise UsageError(
                f"the previous release has none of {', '.join(labels)}: it has "
                f"{', '.join(each.label for each in self.members) or 'no artifact'}"
            )
        cloud = self.cloud.embedder
        recipes = [cloud.preprocess, *(each.embedder.preprocess for each in kept)]
        pixels = decode_all(evidence, recipes, progress)
        shown = pixels[cloud.preprocess].gallery
        gallery = embed_side(self.cloud, shown, "the previous gallery", self.space, progress)
        relevance = evidence.relevance()
        found = {}
        for each in kept:
            asked = pixels[each.embedder.preprocess].queries
            query = embed_side(each, asked, "queries as before", self.space, progress)
            answers = survey(query, gallery, relevance)
            found[each.label] = Answers(each.digest, answers.retrieval, answers.top)
        return found
