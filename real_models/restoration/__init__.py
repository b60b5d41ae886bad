"""Image restoration with learned flows: problems, methods, and their comparison."""
