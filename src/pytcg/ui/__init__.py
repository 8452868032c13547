"""What people see and touch of a machine: its console, and servers that show it."""
