"""The four services of Dear."""
