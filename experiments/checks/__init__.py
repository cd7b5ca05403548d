"""Run folders that are verified and repaired."""
