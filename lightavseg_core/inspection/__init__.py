"""Looking inside a trained model, by hooks: its attention, its decoder's scales, what its mask rests on."""
from . import attention, attribution, scales
from .attention import AttentionRecorder

__all__ = ["AttentionRecorder", "attention", "attribution", "scales"]
