"""What a plan of very many images costs: CPU seconds and memory, for keys as an object store lists them.

    python benchmarks/planning.py [--n 1000000]

Expected: some 12 CPU seconds a million keys, 40 bytes each in the plan, and 3 ms a shard to read it.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from hashlib import md5

from topwork import objects
from topwork.features.plan import IMAGES_OF_SHARD, make_plan
from topwork.objects import ObjectFacts


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    n = parser.parse_args().n

    def listed(self: objects.Prefix, below: str = "") -> Iterator[ObjectFacts]:
        for i in range(n):
            yield ObjectFacts(f"class{i * 1000 // n:04d}/{i:09d}.jpg", 100_000, md5(b"%d" % i).hexdigest())

    objects.Prefix.objects = listed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        before, began = peak_mb(), time.process_time()
        plan = make_plan("s3://bucket/photos/", objects.FolderObjects(folder))
        planned, began_shards = time.process_time(), time.process_time()
        names = {plan.shard(number).name for number in range(0, len(plan), max(1, len(plan) // 100))}
        facts = {
            "images": plan.n_images,
            "shards": len(plan),
            "images_of_shard": IMAGES_OF_SHARD,
            "cpu_seconds_of_planning": round(planned - began, 1),
            "cpu_ms_a_shard": round(1000 * (time.process_time() - began_shards) / len(names), 1),
            "bytes_an_image": round(sum(f.size for f in objects.FolderObjects(folder).objects()) / n, 1),
            "memory_mb_more": round(peak_mb() - before),
        }
    print(json.dumps(facts, indent=2))


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
