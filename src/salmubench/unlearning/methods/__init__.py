"""The unlearning methods, one file each. A new file here is a new method."""
