"""The way out, to other frameworks. Imports the engine and the models; neither knows of it.

`torch.py` translates weights between our layers and PyTorch's state dicts. PyTorch itself is not imported: what goes in are
arrays or tensors by name, what comes out are arrays.
"""

from tinygrad_seq.interop.torch import load_torch, to_torch, to_torch_grads

__all__ = ["load_torch", "to_torch", "to_torch_grads"]
