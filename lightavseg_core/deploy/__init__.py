"""Ways to run a model: eager or compiled in PyTorch, or as an exported file in another runtime."""
from . import eager, edge_graph, export, runtimes, web

__all__ = ["eager", "edge_graph", "export", "runtimes", "web"]
