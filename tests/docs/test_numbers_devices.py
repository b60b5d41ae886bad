"""Numbers that the page of benchmarks states. The truth is the published tables."""

from tests.docs.published import missing, table

PEERS = ("torchdiffeq", "diffrax", "diffrax_stored")
ARITHMETICS = ("tf32", "bfloat16", "channels_last")


def devices():
    """Rows of the times of mixtures' gradients on a GPU, and the costs of a learned flow's there."""
    found = table("gpu_bench").set_index(["problem", "workload", "dtype"])
    for name in found.index.unique("problem"):
        cells = []
        for workload in ("surface", "end_to_end"):
            both = [found.loc[(name, workload, dtype)] for dtype in ("float64", "float32")]
            cells += [f"{1000 * row['seconds']:.0f}" for row in both]
            over = both[0]["ratio"]
            cells.append(f"{float(f'{over:.2g}'):g}" if over < 1000 else f"{over:.1e}".replace("e+0", "e"))
        yield f"| ({name.replace('x', ', ')}) | {' | '.join(cells)} |"
    found = table("gpu_cost").query("kind == 'cost' and problem == 'mnist_unet'")
    stored = found[found["memory"].isin([None, "store"])].set_index(["estimator", "arithmetic", "batch"])["seconds"]
    one = [1000 * stored["end_to_end" if dear else "greedy", "float32", 1] for dear in (False, True)]
    single = found.query("estimator == 'end_to_end' and memory == 'store' and arithmetic == 'float32' and batch == 1")
    low, high = (1000 * single[name].item() for name in ("seconds_min", "seconds_max"))
    between = f"(the three repetitions: {low:.0f} to {high:.0f} ms)"
    yield f"takes {one[0]:.0f} ms greedy and {one[1]:.0f} ms end-to-end {between}"
    many = [1000 * stored["end_to_end" if dear else "greedy", "float32", 512] / 512 for dear in (False, True)]
    yield f"an image takes {many[0]:.2g} and {many[1]:.1f} ms"
    shares = {name: stored["end_to_end", name, 512] / stored["end_to_end", "float32", 512] for name in ARITHMETICS}
    yield f"TF32 takes {shares['tf32']:.2f} of float32's time"
    yield f"bfloat16 {shares['bfloat16']:.2f}, and channels-last memory {shares['channels_last']:.2f}"
    precise = table("gpu_cost").query("kind == 'precision' and estimator == 'end_to_end'").set_index("arithmetic")
    errors = [f"{precise.loc[name, 'value']:.0e}".replace("e-0", "e-") for name in ARITHMETICS]
    yield f"measured on a batch of four, are {errors[0]}, {errors[1]} and {errors[2]}"
    kept = found.query("estimator == 'end_to_end' and arithmetic == 'float32' and batch == 512").set_index("memory")
    few, store = kept.loc["checkpoint"], kept.loc["store"]
    yield f"takes {store['bytes'] / 1e9:.1f} GB and {store['seconds']:.3f} s"
    yield f"{few['bytes'] / store['bytes']:.2f} of the memory ({few['bytes'] / 1e9:.2f} GB)"
    yield f"for {few['seconds'] / store['seconds']:.1f} times the time ({few['seconds']:.3f} s)"
    last = kept.loc["recursive"]
    yield f"eight steps ({last['bytes'] / 1e9:.2f} GB), and takes {last['seconds']:.3f} s"
    found = table("gpu_cost").query("kind == 'cost' and problem != 'mnist_unet'").set_index(["estimator", "batch"])
    whole = {key: f"{1000 * value:.0f}" for key, value in found["seconds"].items()}
    yield f"{whole['greedy', 1]} ms for one molecule and {whole['greedy', 64]} ms for a batch of 64"
    yield f"end-to-end takes {whole['end_to_end', 1]} and {whole['end_to_end', 64]} ms"


def bench():
    """Peers' times over ours, and ours over the floors, by size."""
    found = table("bench").set_index(["problem", "workload", "contender"])
    assert found.loc[(slice(None), ("surface", "end_to_end"), PEERS), "agreement"].max() < 8e-11
    ratios = found["ratio"]
    sizes = ratios.loc[:, "surface"].index.unique("problem")
    for name in sizes:
        cells = [f"{ratios[name, kind, peer]:.2g}" for kind in ("surface", "end_to_end") for peer in PEERS]
        yield f"| ({name.replace('x', ', ')}) | {' | '.join(cells)} |"
    for floor, said in (("floor", "times the floor"), ("floor_loop", "times the loop floor")):
        yield f"{_listed(1 / ratios[name, 'surface', floor] for name in sizes)} {said}"
    yield f"surfaces take {_listed(ratios[name, 'surface', 'ours_torch'] for name in sizes)} times as long"
    yield f"has {_listed(ratios[name, 'estimators', 'adaptive'] for name in sizes)} times at its three sizes"


def _listed(values):
    first, second, third = (f"{value:.2g}" for value in values)
    return f"{first}, {second} and {third}"


def test_the_page_states_the_published_ratios():
    assert missing("docs/pages/benchmarks.md", bench()) == []


def test_the_page_states_the_published_numbers():
    assert missing("docs/pages/benchmarks.md", devices()) == []
