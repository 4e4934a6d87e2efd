"""An album: what a model says of many photos, kept from run to run, and an offline page to look through it."""
