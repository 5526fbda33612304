"""Checks a model's output: finite logits in the shape of the ground truth, or an error."""
from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


class NotFinite(ValueError):
    """Some logits are NaN or infinite. frame: index of the first such frame in the batch."""

    def __init__(self, where: str, frame: int, found: str):
        self.frame, self.found = frame, found
        super().__init__(
            f"{where}: {found}. The model's weights or its input are not finite either: "
            "use another checkpoint, or leave this input out."
        )

    def at(self, where: str) -> NotFinite:
        """The same error, with another name for the frame."""
        return NotFinite(where, self.frame, self.found)


def check_finite(logits: Tensor, where: Callable[[int], str]) -> None:
    """Raises NotFinite unless the logits (N, ...) of all N frames are finite. where: gives the name of frame
    k."""
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
    """Raises ValueError unless logits (..., H, W), or (..., C, H, W) with `classes`, match a ground truth
    (..., H, W); NotFinite if they are not finite."""
    channels = () if classes is None else (classes,)
    expected = (*target.shape[:-2], *channels, *target.shape[-2:])
    if target.ndim < 2 or logits.shape != expected:
        found = f"logits {tuple(logits.shape)} and target {tuple(target.shape)}"
        wanted = ", ".join(["...", *map(str, channels), "H, W"])
        raise ValueError(f"{found}: expected ({wanted}) and (..., H, W).")
    if logits.numel():
        frames = logits.reshape(-1, *expected[target.ndim - 2 :])  # (N, H, W) or (N, C, H, W)
        check_finite(frames, "frame {}".format)
