"""What a model costs: counted, measured, and compared with what the machine can do."""
from . import accounting, benchmark, breakdown, flops, machine, memory, reported, series, timing
from .accounting import PARTS, macs, parameters, parts, skeleton
from .profiler import Candidate, Profile, lines, profile, table
from .series import scaling
from .timing import latency

__all__ = [
    "PARTS", "Candidate", "Profile", "accounting", "benchmark", "breakdown", "flops", "latency", "lines",
    "machine", "macs", "memory", "parameters", "parts", "profile", "reported", "scaling",
    "series", "skeleton", "table", "timing",
]
