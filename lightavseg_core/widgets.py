"""Widgets for the notebooks: the mixing desk, a stepper through a decoder, an explorer of attention."""
from .desk import MixingDesk, response_times

__all__ = ["MixingDesk", "response_times"]
