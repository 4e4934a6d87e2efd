"""Pure functions on coordinates: cells of the sphere and partitions of photos into them."""
