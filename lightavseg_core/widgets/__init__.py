"""Widgets for notebooks: pictures that respond to the mouse."""
from .attention_explorer import AttentionExplorer
from .decoder_stepper import DecoderStepper
from .mixing_desk import MixingDesk
from .response import response_times
from .video_player import VideoPlayer

__all__ = ["AttentionExplorer", "DecoderStepper", "MixingDesk", "VideoPlayer", "response_times"]
