"""Integer instructions, their rows beside their lowerings."""
