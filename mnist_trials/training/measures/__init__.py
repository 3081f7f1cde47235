"""What is measured of a training: metrics, histograms and how fast it is."""
