"""Cells, recurrent layers and sequence models, on the operations of the engine only."""
