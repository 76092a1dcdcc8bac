"""`dear export`: what the services know as Parquet, for a data warehouse."""
