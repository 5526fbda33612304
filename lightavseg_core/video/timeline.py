"""Jumps in a file's time stamps: joined recordings, each with its own clock, or a gap.

They are found in all packets, before anything is decoded, so that pictures and sound move by the same amount.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import av

from ..data.decoding import Moves, Tally, packets

PADDING = 0.1  # seconds by which sound outlasts pictures for no other reason than its codec's blocks
BACK = 0.1  # seconds; smaller steps back are jitter. This and the next are the program ffmpeg's, too
GAP = 10  # seconds without any packet, in formats that have none
PAUSE = 60  # and in those that may have some
LASTS = 1  # second at most, whatever a packet says: until the next one it may be a year
DISCONTINUOUS = 512  # AVFMT_TS_DISCONT, of formats such as TS and VOB: always sent, by clocks that may change


class Jump(NamedTuple):
    """A jump from one part of a file to the next."""

    time: float  # seconds, of the stamps as they go on, where the next part begins at once
    by: float  # seconds that the stamps themselves jump, ahead or (below 0) back
    sound: float | None  # seconds, of the stamps as they go on, where the next part is heard; None: never


@dataclass
class Part:
    """The part between two jumps, by each stream's number in the file; times are stamps, in seconds."""

    first: dict[int, int] = field(default_factory=dict)  # the number of its first packet here
    start: dict[int, float] = field(default_factory=dict)  # what is shown or heard first
    end: dict[int, float] = field(default_factory=dict)  # and where the last of it ends
    coded: dict[int, float] = field(default_factory=dict)  # the same in the order of coding

    def add(self, stream: int, number: int, shown: float, lasts: float) -> None:
        self.first.setdefault(stream, number)
        self.start[stream] = min(shown, self.start.get(stream, shown))
        self.end[stream] = max(shown + lasts, self.end.get(stream, shown))

    def goes_on(self, stream: int, coded: float, gap: float) -> bool:
        if stream not in self.coded:
            return True
        return self.coded[stream] - BACK <= coded <= max(self.coded.values()) + gap

    def holds(self, coded: float, gap: float) -> bool:
        return min(self.start.values()) - gap <= coded <= max(self.end.values()) + gap

    def span(self, pictures: int) -> tuple[float, float]:
        """The start and end of its pictures, or of its sound where that extends beyond its padding."""
        start, end = min(self.start.values()), max(self.end.values())
        first, last = self.start.get(pictures, start), self.end.get(pictures, end)
        return first if first - start < PADDING else start, last if end - last < PADDING else end


def timeline(
    container: av.container.InputContainer, pictures: av.stream.Stream, sound: av.stream.Stream | None
) -> tuple[Moves, tuple[Jump, ...]]:
    """How far to move the packets of two streams, read from the beginning, so that each part starts where the
    one before ends; and the jumps."""
    sent = bool(int(container.format.flags) & DISCONTINUOUS)
    read = packets(container, [pictures, *([sound] if sound else [])], Tally())
    stays = {pictures.index: float(1 / rate_of(pictures))}
    before, *others = _parts(read, GAP if sent else PAUSE, stays)
    moves, jumps, later = {}, [], 0.0
    for part in others:
        if not _is_another(part, before, sent):
            before.end |= part.end
            before.coded |= part.coded
            continue
        (_, end), (start, _) = before.span(pictures.index), part.span(pictures.index)
        time, by = end + later, start - end
        later -= by
        heard = part.start.get(sound.index) if sound else None
        jumps.append(Jump(time, by, None if heard is None else heard + later))
        for stream, number in part.first.items():
            moves.setdefault(stream, []).append((number, Fraction(later)))
        before = part
    return moves, tuple(jumps)


def rate_of(pictures: av.VideoStream) -> Fraction:
    """Pictures per second, for videos that do not tell how long a picture lasts."""
    return pictures.average_rate or pictures.guessed_rate or Fraction(25)


def _parts(read: Iterable[av.Packet], gap: float, stays: dict[int, float]) -> list[Part]:
    """stays: by stream number, how long a packet lasts if it does not tell."""
    parts, at, numbers = [Part()], {}, {}  # of each stream: its part now, and its packets so far
    for packet in read:
        stream = packet.stream.index
        number = numbers[stream] = numbers.get(stream, -1) + 1
        coded, shown = packet.dts, packet.pts
        if coded is None and shown is None:
            continue
        base = float(packet.time_base)
        lasts = min(base * packet.duration if packet.duration else stays.get(stream, 0.0), LASTS)
        k = at.get(stream, len(parts) - 1)
        if coded is not None:  # pictures are shown in another order
            if not parts[k].goes_on(stream, base * coded, gap):
                # Another stream may be there already; a last packet may still come after its first.
                k += 1
                while k < len(parts) and not parts[k].holds(base * coded, gap):
                    k += 1
                if k == len(parts):
                    parts.append(Part())
            parts[k].coded[stream] = base * coded + lasts
        at[stream] = k
        parts[k].add(stream, number, base * (coded if shown is None else shown), lasts)
    return parts


def _is_another(part: Part, before: Part, sent: bool) -> bool:
    """Whether all streams that have not ended continue here; otherwise one pauses or has wrong stamps."""
    ends = [before.end[stream] for stream in part.first if stream in before.end]
    left = [end for stream, end in before.end.items() if stream not in part.first]
    if any(end > min(ends, default=end) + LASTS for end in left):
        return False
    ahead = min(part.start.values()) > max(before.end.values())
    return not ahead or sent or len(part.first) > 1
