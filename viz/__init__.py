"""From a tape to a picture."""
