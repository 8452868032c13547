"""Guest bytes to records: the instruction table, the opcode tree, form keys."""
