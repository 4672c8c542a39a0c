"""The way out, to other frameworks. Imports the engine and the models; neither knows of it.

`torch.py` and `keras.py` translate weights between our layers and PyTorch's state dicts or Keras's lists, on top of
`links.py`. Neither library is imported: what goes in are arrays or tensors, what comes out are arrays.
"""

from tinygrad_seq.interop.keras import load_keras, to_keras
from tinygrad_seq.interop.torch import load_torch, to_torch, to_torch_grads

__all__ = ["load_torch", "to_torch", "to_torch_grads", "load_keras", "to_keras"]
