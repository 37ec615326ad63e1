"""A plug-in for tests of tuning: pupils whose validation scores and test scores name different settings as the best."""
