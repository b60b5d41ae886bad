"""Flow maps of 1-D Gaussian mixtures in mpmath, from their distribution functions: no code of the suite, no torch."""

import mpmath
from mpmath import mpf

mpmath.mp.dps = 50


def log_pdf(components, x):
    """log density at x of components, a list of (weight, mean, variance)."""
    terms = [w * mpmath.npdf(x, m, mpmath.sqrt(v)) for w, m, v in components]
    return mpmath.log(mpmath.fsum(terms))


def log_tail(components, x, upper):
    """log P(X > x), or log P(X < x)."""
    sign = 1 if upper else -1
    return mpmath.log(mpmath.fsum(w * mpmath.erfc(sign * (x - m) / mpmath.sqrt(2 * v)) / 2 for w, m, v in components))


def flow_map(weights, means, variances, alpha, sigma, x):
    """Phi(x) and Phi'(x) from the time of alpha and sigma to the data: the smaller tail is what both ends share."""
    total = mpmath.fsum(mpf(w) for w in weights)
    end = [(mpf(w) / total, mpf(m), mpf(v)) for w, m, v in zip(weights, means, variances, strict=True)]
    alpha, sigma, x = mpf(alpha), mpf(sigma), mpf(x)
    begin = [(w, alpha * m, alpha**2 * v + sigma**2) for w, m, v in end]
    upper = log_tail(begin, x, True) < log_tail(begin, x, False)
    wanted = log_tail(begin, x, upper)

    def missing(y):
        return (log_tail(end, y, upper) - wanted) * (-1 if upper else 1)

    low, high = mpf(-1), mpf(1)
    while missing(low) > 0:
        low *= 2
    while missing(high) < 0:
        high *= 2
    y = mpmath.findroot(missing, (low, high), solver="illinois", tol=mpf(10) ** -35, verify=False, maxsteps=500)
    return y, mpmath.exp(log_pdf(begin, x) - log_pdf(end, y))


def relative_error(values, truth):
    """Relative L2 distance of floats from mpmath numbers, a float."""
    apart = mpmath.fsum((mpf(v) - e) ** 2 for v, e in zip(values, truth, strict=True))
    return float(mpmath.sqrt(apart / mpmath.fsum(e**2 for e in truth)))
