"""What a model must give: finite numbers, as many as the truth has. Anything else is no background."""
from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


class NotFinite(ValueError):
    """Logits with NaN or infinities among them. frame: the first such, of those that a model gave at once."""

    def __init__(self, where: str, frame: int, found: str):
        self.frame, self.found = frame, found
        super().__init__(
            f"{where}: {found}. The model's weights, or what it was given, are not finite either: "
            "take another checkpoint, or leave this out."
        )

    def at(self, where: str) -> NotFinite:
        """The same, of a frame that is called otherwise."""
        return NotFinite(where, self.frame, self.found)


def check_finite(logits: Tensor, where: Callable[[int], str]) -> None:
    """Raises NotFinite for logits (N, ...) of N frames that are not all finite. where: what frame k is
    called."""
    logits = logits.detach()
    if logits.sum().isfinite():  # much faster than one by one, and right but for sums that are too large
        return
    finite = logits.isfinite()
    if finite.all():
        return
    frame = int(finite.flatten(1).all(1).int().argmin())
    wrong = logits[frame][~finite[frame]]
    found = f"{len(wrong):,} of {finite[frame].numel():,} logits are not finite ({wrong[0].item()})"
    raise NotFinite(where(frame), frame, found)


def check_pair(logits: Tensor, target: Tensor, classes: int | None = None) -> None:
    """Raises ValueError unless logits (..., H, W), or with `classes` (..., C, H, W), go with a truth
    (..., H, W); NotFinite where they are not finite."""
    channels = () if classes is None else (classes,)
    expected = (*target.shape[:-2], *channels, *target.shape[-2:])
    if target.ndim < 2 or logits.shape != expected:
        found = f"logits {tuple(logits.shape)} and target {tuple(target.shape)}"
        wanted = ", ".join(["...", *map(str, channels), "H, W"])
        raise ValueError(f"{found}: expected ({wanted}) and (..., H, W).")
    if logits.numel():
        frames = logits.reshape(-1, *expected[target.ndim - 2 :])  # (N, H, W) or (N, C, H, W)
        check_finite(frames, "frame {}".format)
