"""What an app grants its query model on a device: time for one photo, bytes to fetch."""

from pydantic import BaseModel, ConfigDict, Field


class Budget(BaseModel):
    """None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_latency_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False
    )  # median, tensor in
    max_size_bytes: int | None = Field(default=None, gt=0)

    def excess(self, *, latency_ms: float | None, size_bytes: int) -> float:
        """The worst ratio of cost to limit; at most 1 fits. What nobody predicted never fits."""
        ratios = [0.0]
        if self.max_latency_ms is not None:
            ratios.append(float("inf") if latency_ms is None else latency_ms / self.max_latency_ms)
        if self.max_size_bytes is not None:
            ratios.append(size_bytes / self.max_size_bytes)
        return max(ratios)

    def __str__(self) -> str:
        words = []
        if self.max_latency_ms is not None:
            words.append(f"{self.max_latency_ms:g} ms")
        if self.max_size_bytes is not None:
            words.append(f"{self.max_size_bytes / 1e6:g} MB")
        return " and ".join(words) or "no limit"
