"""What is done: one kind a folder, one method a file. See kpod.runner for the contract."""
