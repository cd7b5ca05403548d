"""What people see of runs, and what is written beside results."""
