"""Made-up results in two folders, for the tests of `peerwatt regress`."""

import json

from peerwatt.runs.result import (
    Environment,
    EpisodeMetrics,
    PluginRecord,
    RunResult,
    TaskRecord,
    Timings,
    configuration_hash,
)


def entry(
    results,
    algorithm,
    welfare,
    *,
    budget=1_000_000,
    first=0,
    seeds=None,
    options=None,
    version="0.1.0",
    content_hash="3f" * 32,
    metrics=None,
    policy=None,
):
    """Write one run for each value of `welfare`: two episodes of two households."""
    own = {"distribution": "peerwatt", "version": version}
    configuration = {
        "task": TaskRecord(name="pilot-v1", content_hash=content_hash, households=2, slots=48),
        "mechanism": PluginRecord(name="cda", **own),
        "algorithm": PluginRecord(name=algorithm, options=options or {}, **own),
        "critic": PluginRecord(name="none", **own),
        "shaping": {},
        "budget": budget,
        "validations": 0,
    }
    config_hash = configuration_hash(**configuration)
    if seeds is None:
        seeds = range(first, first + len(welfare))
    for seed, value in zip(seeds, welfare, strict=True):
        grid, optimum = [10.0, 20.0], [8.0, 14.0]
        cost = [g - float(value) * (g - o) for g, o in zip(grid, optimum, strict=True)]
        share = min(1.0, max(0.0, float(value)))
        scores = {"ftg": [share] * 2, "fbs": [share] * 2, "fpp": [share] * 2}
        result = RunResult(
            **configuration,
            config_hash=config_hash,
            seed=seed,
            agent_steps=budget,
            households=["prosumer", "consumer"],
            test=EpisodeMetrics(
                episodes=2,
                cost=cost,
                grid_cost=grid,
                oracle_cost=optimum,
                savings=[[(g - c) / 2] * 2 for g, c in zip(grid, cost, strict=True)],
                grid_bills=[[g / 2] * 2 for g in grid],
                metrics=scores if metrics is None else metrics,
            ),
            curve=[],
            timings=Timings(
                wall=1.0, cpu=1.0, training_wall=1.0, evaluation_wall=0.0,
                agent_steps_per_second=None,
            ),
            environment=Environment(
                python="3.11.9", platform="Linux", processor="Example", packages={},
                git_commit=None, git_dirty=None,
            ),
            files={"policy.safetensors": policy} if policy else {},
            command=f"peerwatt run --task pilot-v1 --algorithm {algorithm} --seeds 1 "
            f"--first-seed {seed}",
            created_utc="2025-11-22T12:00:00Z",
        )  # fmt: skip
        folder = results / "pilot-v1" / f"{algorithm}--none--cda--{config_hash[:8]}"
        (folder / f"seed-{seed:03d}").mkdir(parents=True, exist_ok=True)
        (folder / f"seed-{seed:03d}" / "result.json").write_text(result.model_dump_json())


def learner(results, welfare, **options):
    entry(results, "ippo", welfare, **options)


def fail(results, seed, text):
    """Leave what a failed run of the learner leaves."""
    [folder] = (results / "pilot-v1").glob("ippo--*")
    work = folder / f".seed-{seed:03d}.work"
    work.mkdir()
    failure = {"text": text, "bad_input": False, "when": "2025-11-22T12:00:00+00:00"}
    (work / "failure.json").write_text(json.dumps(failure))
