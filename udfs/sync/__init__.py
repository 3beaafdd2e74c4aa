"""Time: which clock a stamp is on, and what every sensor said at one instant."""
