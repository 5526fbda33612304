"""How a model is run elsewhere: eagerly or compiled, as an exported file, in which runtime."""
from . import eager, edge_graph, export, runtimes, web

__all__ = ["eager", "edge_graph", "export", "runtimes", "web"]
