"""`-display curses`: the machine's text screen on the terminal."""
