"""Running times of this package beside those of other libraries."""
