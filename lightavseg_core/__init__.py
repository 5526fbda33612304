"""LightAVSeg and its relatives: audio-visual segmentation, small enough to read."""
from . import data, encoders, losses, metrics
from .config import TrainConfig
from .evaluation import deaf_oracle, evaluate
from .methods import create_model, list_methods, load_model
from .trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "create_model", "data", "deaf_oracle", "encoders", "evaluate", "list_methods", "load_model", "losses",
           "metrics"]
