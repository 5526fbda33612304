"""Data on disk, in one layout: AVSBench's. Nothing here knows of models."""
from . import audio, sounding_shapes
from .avsbench import AVSBench, collate

__all__ = ["AVSBench", "audio", "collate", "sounding_shapes"]
