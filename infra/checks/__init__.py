"""What is looked at before a run: the machine, its ports, labels, models and costs."""
