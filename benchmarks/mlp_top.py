"""One epoch of the course's top on kept features: `MLPTop` against Keras's `fit` and scikit-learn.

    python benchmarks/mlp_top.py [--quick] [--rivals rivals/bin/python]

Dense(256) + Dropout(0.5) + Dense(10), Adam, batches of 32, 50,000 × 1,024 features; seconds an epoch once compiled.
The FLOP limit is two products forward and one back through the first layer, over what a large matrix product reaches.
Expected: faster than the fastest of the others.
"""

from __future__ import annotations

import numpy as np

from common import quick_and_rivals, rival, seconds, show
from extraction import peak
from topwork.tops.mlp_training import Examples, MLPTrainer

D, HIDDEN, K = 1024, 256, 10


def main() -> None:
    given = quick_and_rivals(__doc__, "10,000 examples")
    n = 10_000 if given.quick else 50_000
    random = np.random.default_rng(0)
    X, y, weights = random.normal(size=(n, D)).astype(np.float32), random.integers(0, K, n), np.ones(n, np.float32)
    few = Examples(X[:1000], y[:1000], weights[:1000])
    options = {"dropout": 0.5, "learning_rate": 1e-3, "batch_size": 32, "seed": 0}
    trainer = MLPTrainer((D, HIDDEN, K), Examples(X, y, weights), few, **options)
    trainer.run_epoch()
    ours = seconds(trainer.run_epoch, repeats=3)
    flops = n * (4 * D * HIDDEN + 6 * HIDDEN * K)
    limit = flops / (peak("f32") or np.nan) / 1e9
    others = {f"Keras on {b}": rival(given.rivals, b, "mlp", n, D) for b in ("tensorflow", "jax", "torch")}
    others["scikit-learn, without dropout"] = rival(given.rivals, "torch", "sklearn", n, D)
    print(f"{n:,} × {D:,} features\n\n| | s an epoch | MLPTop is faster by |\n|---|---|---|")
    print(f"| MLPTop | {ours:.2f} | |\n| FLOP limit | {limit:.2f} | {limit / ours:.2f}× |")
    for name, time in others.items():
        print(f"| {name} | {show(time, '{:.2f}')} | {show(None if time is None else time / ours, '{:.1f}×')} |")


if __name__ == "__main__":
    main()
