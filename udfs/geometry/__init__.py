"""Space: cameras, transforms, point clouds and boxes. Conventions of REP-103."""
