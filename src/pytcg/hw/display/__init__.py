"""Display chips: VGA with Bochs VBE, and what makes pictures and text of their memory."""
