"""What is done to a data set before learning."""
