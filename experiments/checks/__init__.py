"""Verification and repair of run folders."""
