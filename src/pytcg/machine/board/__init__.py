"""The `pc` board's parts: one file a concern, each wires its chips into the backplane."""
