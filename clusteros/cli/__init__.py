"""The command line `clusteros`: people's door, over REST only. Knows neither Django nor the database."""
