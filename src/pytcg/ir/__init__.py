"""The intermediate representation: op table, values and blocks, builder, verifier, text form."""
