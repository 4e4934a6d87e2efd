"""Pure functions on places: cells, partitions, distances, names and the map."""
