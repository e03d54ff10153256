"""What the machine gives: processes, GPUs, CPU, interruption, files, errors, progress."""
