"""Progress, tables and figures of runs, and the versions recorded beside results."""
