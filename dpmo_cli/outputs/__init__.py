"""The files that a run writes: COCO, Parquet, pictures, and the check of them."""
