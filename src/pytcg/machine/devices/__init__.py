"""What `-device` can add: one table of models, and how each is built."""
