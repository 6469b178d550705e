"""What differs between ways of learning."""
