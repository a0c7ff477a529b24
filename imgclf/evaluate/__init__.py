"""`imgclf evaluate`: how good a finished run is on images that it was not trained on."""
