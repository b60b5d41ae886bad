"""Problems by name: analytic ones, families of random ones, and mixtures fitted to data."""
