"""The mathematics of the method: pure, numpy only, no input or output."""
