"""Many runs, declared and resumable, and what they say over seeds."""
from . import runs, statistics, sweep

__all__ = ["runs", "statistics", "sweep"]
