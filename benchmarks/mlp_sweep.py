"""Many `MLPTop`s at once, by `vmap`, against one after another: is a sweep worth a function of its own?

    python benchmarks/mlp_sweep.py [--quick]

Eight tops of another seed each, Dense(256) + Dropout(0.5) + Dense(10), batches of 32, 50,000 × 1,024 features, one
compiled epoch of all: each with its own order of the examples, and all with the same; seconds an epoch and top. The
FLOP limit is what no way of computing the same can beat on this machine. About two minutes.
Expected: no faster than one after another; the limit is about twice as fast (the aim was 5 times).
"""

from __future__ import annotations

import jax
import numpy as np

from common import arguments, seconds
from extraction import peak
from topwork.tops.mlp_training import Examples, MLPTrainer, _epoch_function

D, HIDDEN, K, TOPS = 1024, 256, 10, 8


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 examples")
    n = 10_000 if parser.parse_args().quick else 50_000
    random = np.random.default_rng(0)
    X, y, weights = random.normal(size=(n, D)).astype(np.float32), random.integers(0, K, n), np.ones(n, np.float32)
    train, few = Examples(X, y, weights), Examples(X[:1000], y[:1000], weights[:1000])
    options = {"dropout": 0.5, "learning_rate": 1e-3, "batch_size": 32}
    trainers = [MLPTrainer((D, HIDDEN, K), train, few, seed=seed, **options) for seed in range(TOPS)]
    trainers[0].run_epoch()
    alone = seconds(trainers[0].run_epoch, repeats=3)
    limit = n * (4 * D * HIDDEN + 6 * HIDDEN * K) / (peak("f32") or np.nan) / 1e9
    print(f"{n:,} × {D:,} features\n\n| | s an epoch and top | faster by |\n|---|---|---|")
    print(f"| one after another | {alone:.2f} | |\n| FLOP limit | {limit:.2f} | {alone / limit:.1f}× |", flush=True)
    for name, axis in (("own order", 0), ("the same order", None)):
        each = at_once(trainers, axis) / TOPS
        print(f"| {TOPS} at once, {name} | {each:.2f} | {alone / each:.1f}× |", flush=True)


def at_once(trainers: list[MLPTrainer], axis: int | None) -> float:
    """Seconds of one epoch of all; `axis` None gives all the same batches."""
    epoch = jax.jit(jax.vmap(_epoch_function(0.5, 1e-3), in_axes=(0, 0, axis, None, None)))
    keys = jax.numpy.stack([trainer._key for trainer in trainers])
    states = jax.tree.map(lambda *parts: np.stack(parts), *(trainer._state for trainer in trainers))
    batches = [trainer._batches() for trainer in trainers]
    given = batches[0] if axis is None else jax.tree.map(lambda *parts: np.stack(parts), *batches)

    def run() -> None:
        jax.block_until_ready(epoch(keys, states, given, *trainers[0]._data))

    run()
    return seconds(run, repeats=2)


if __name__ == "__main__":
    main()
