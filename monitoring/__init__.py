"""What live forecasts are worth, and whether to retrain. The only package that imports Evidently."""
