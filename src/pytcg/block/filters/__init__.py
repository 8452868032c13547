"""Filters: nodes that pass requests on, and change or watch them."""
