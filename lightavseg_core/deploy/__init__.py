"""Ways to run a model: eager or compiled in PyTorch, or as an exported file in another runtime. `web` and
`scoring`, which bring torchmetrics, are imported where they are used."""
from . import eager, edge_graph, export, runtimes

__all__ = ["eager", "edge_graph", "export", "runtimes"]
