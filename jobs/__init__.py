"""What users submit and what becomes of it: jobs, their runs and pods, their output."""
