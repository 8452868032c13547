"""Tests of the NBD server, client and pytcg-nbd."""
