"""Evidence about generated videos: the judge, metrics, statistics and the report."""
