"""Two archives, or more, side by side: facts in the order of the graph; printing is elsewhere."""
