"""Looking inside a trained model with hooks: attention, scales of the decoder, attributions of its mask."""
from . import attention, attribution, scales
from .attention import AttentionRecorder

__all__ = ["AttentionRecorder", "attention", "attribution", "scales"]
