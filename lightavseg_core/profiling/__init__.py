"""What a model costs: counted, measured, and against what the machine could do."""
from . import accounting, benchmark, breakdown, flops, machine, memory, reported, series, timing
from .accounting import PARTS, dead_parameters, macs, parameters, parts, skeleton
from .profiler import Candidate, Profile, lines, profile, table
from .series import scaling, throughput
from .timing import latency

__all__ = [
    "PARTS", "Candidate", "Profile", "accounting", "benchmark", "breakdown", "dead_parameters", "flops",
    "latency", "lines", "machine", "macs", "memory", "parameters", "parts", "profile", "reported", "scaling",
    "series", "skeleton", "table", "throughput", "timing",
]
