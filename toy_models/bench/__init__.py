"""Times of this package beside other libraries."""
