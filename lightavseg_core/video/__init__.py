"""Masks for any video, computed in a stream."""
from .prediction import Prediction, predict, write, write_all
from .segmenter import Segmenter, load

__all__ = ["Prediction", "Segmenter", "load", "predict", "write", "write_all"]
