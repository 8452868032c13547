"""Threaded code: native helpers and one handler an instruction form, compiled once a machine."""
