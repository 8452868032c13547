"""The x86 guest: state, decoder, instruction lowering, system helpers."""
