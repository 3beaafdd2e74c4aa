"""Objects out of a lidar sweep, without a trained model."""
