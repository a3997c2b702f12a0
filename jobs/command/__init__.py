"""What the verbs share of the command line: flags, times, the console."""
