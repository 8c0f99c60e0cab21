"""What critics cost: calls, tokens, dollars and time per million agent-steps, and the student.

Run: python perf/critics.py [overhead] [student] [afford] [--task pilot-v1 ...]

- overhead: CPU and wall-clock seconds of IPPO with `distilled` (teacher: rule) against `none` and
  `rule`, in pairs that alternate; and CPU time per call of 32 slots, lessons in the other thread
  included.
- student: true error of `distilled` against its teacher on every slot while IPPO trains, so while
  policies drift, beside the held-out error that it reports of itself.
- afford: the table of calls, tokens, dollars and seconds. The model is the rule critic behind a
  server on loopback, in a process of its own: its replies come at once, so what is measured is the
  calls and the time they take besides the model's. Tokens are estimates, at three bytes each;
  dollars are unknown unless --price-in and --price-out tell prices. Counts are scaled to a million
  agent-steps from what was played, which the table states.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from peerwatt.env import VectorMarket
from peerwatt.env.records import slot_batch
from peerwatt.fairness import Shaping, score_slots
from peerwatt.fairness.session import CriticSession, opened
from peerwatt.plugins.loader import load_task
from peerwatt.plugins.texts import from_text
from peerwatt.runs import TrainingRun
from peerwatt_algorithms.ippo import IPPO
from peerwatt_critics.distilled import DistilledCritic
from peerwatt_critics.none import NoCritic
from peerwatt_critics.prompting import load_prompt
from peerwatt_critics.rule import RuleCritic

TESTS = Path(__file__).parents[1] / "tests" / "critics"
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from fake_server import FakeServer, replies, rule
scale = int(sys.argv[2])

def counted(exchange):
    sizes = len(exchange.seen.body), len(exchange.answer())
    replies(usage=tuple(size // 3 for size in sizes))(exchange)

with FakeServer(lambda _: counted, lambda seen: rule(seen, scale)) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


class Train:
    """One training of IPPO with a critic, and what it took."""

    def __init__(self, task, critic, budget, seed=0, store=None, watch=None):
        shaping = Shaping()
        slots = int(budget // task.community.size * (1 - shaping.warm))
        generator = np.random.default_rng([seed, 0xC417])
        session = CriticSession(generator, seed=seed, expected_slots=slots, store=store)
        wall, cpu = time.perf_counter(), time.process_time()
        with opened(critic, session) as work:
            run = TrainingRun(
                task,
                seed=seed,
                budget=budget,
                critic=work if watch is None else watch(work),
                shaping=shaping,
                validations=0,
            )
            IPPO().train(run)
        self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.steps = run.agent_steps
        self.usage = work.usage()


class Watched:
    """Holds every score that a critic delivers against the rule critic's."""

    def __init__(self, critic):
        self.critic = critic
        self.errors = []

    def __call__(self, work):
        """Take the place of `work`."""
        self.work = work
        return self

    def score(self, slots):
        """Return the scores, and keep how far they are off."""
        scores = self.work.score(slots)
        self.errors.append(np.abs(np.array(scores) - np.array(score_slots(slots))))
        return scores


def overhead(names, options, console):
    """Time critics in turn, so that whatever else the machine does falls on all of them."""
    table = Table(title=f"IPPO, 32 communities, {options.budget:,} agent-steps, median of pairs")
    for name in ("task", "critic", "CPU s", "wall s", "CPU +%", "range", "wall +%", "range"):
        table.add_column(name, justify="right")
    critics = {"none": NoCritic(), "rule": RuleCritic(), "distilled": DistilledCritic()}
    for name in names:
        task = load_task(name)
        for critic in critics.values():
            Train(task, critic, task.community.size * 32 * 48 * 8)  # compile
        runs = {critic: [] for critic in critics}
        for repeat in range(options.repeats):
            for critic in list(critics)[:: 1 if repeat % 2 else -1]:
                runs[critic].append(Train(task, critics[critic], options.budget, repeat))
        for critic, done in runs.items():
            pairs = list(zip(done, runs["none"], strict=True))
            more = []
            for kind in ("cpu", "wall"):
                values = [getattr(a, kind) / getattr(b, kind) * 100 - 100 for a, b in pairs]
                more += [f"{statistics.median(values):+.1f}"]
                more += [f"{min(values):+.0f} to {max(values):+.0f}"]
            table.add_row(
                name,
                critic,
                f"{statistics.median(run.cpu for run in done):.2f}",
                f"{statistics.median(run.wall for run in done):.2f}",
                *more,
            )
    console.print(table)
    step_times(names, console)


def step_times(names, console):
    """Time the answers alone: 32 communities a call, slots as random play makes them."""
    table = Table(title="Milliseconds per call of 32 slots, once the student is ready")
    for name in ("task", "households", "rule", "distilled", "with its lessons", "target"):
        table.add_column(name, justify="right")
    for name in names:
        task = load_task(name)
        market = VectorMarket(task, 32, seed=0)
        market.reset()
        generator = np.random.default_rng(0)
        shape = (32, market.num_agents, len(market.action_nvec))
        batches = []
        for _ in range(640):
            step = market.step(generator.integers(0, market.action_nvec, shape))
            batches.append(slot_batch(task, market.tables.ticks, step.slot))
        session = CriticSession(generator, expected_slots=10**6)
        with opened(DistilledCritic(), session) as work:
            for slots in batches[:320]:
                work.score(slots)
            here = blocks(work.score, batches[320:], time.thread_time)
            everywhere = blocks(work.score, batches[320:], time.process_time)
        rule = blocks(score_slots, batches[320:], time.process_time)
        values = (rule, here, everywhere)
        milliseconds = (f"{1000 * value:.3f}" for value in values)
        table.add_row(name, str(market.num_agents), *milliseconds, "<= 0.3")
    console.print(table)


def blocks(score, batches, clock, size=32):
    """Return the seconds of a call, the median of blocks of as many calls as a join takes."""
    seconds = []
    for start in range(0, len(batches), size):
        began = clock()
        for slots in batches[start : start + size]:
            score(slots)
        seconds.append((clock() - began) / size)
    return statistics.median(seconds)


def student(names, options, console):
    table = Table(title="distilled over rule while IPPO trains")
    for column in ("task", "agent-steps", "seed", "asked of feasible", "asked of all", "answered"):
        table.add_column(column, justify="right")
    for column in ("true MAE", "FTG FBS FPP FTB", "last half", "held-out MAE", "95 %", "within"):
        table.add_column(column, justify="right")
    for name in names:
        for seed in range(options.seeds):
            watched = Watched(DistilledCritic())
            done = Train(load_task(name), watched.critic, options.budget, seed, watch=watched)
            errors, usage = np.array(watched.errors), done.usage
            held_out, feasible = usage.held_out, usage.slots - usage.undefined
            late = errors[len(errors) // 2 :]
            table.add_row(
                name,
                f"{done.steps:,}",
                str(seed),
                f"{held_out.asked / feasible:.2%}",
                f"{held_out.asked / usage.slots:.2%}",
                f"{usage.student / feasible:.1%}",
                f"{np.nanmean(errors):.4f}",
                " ".join(f"{np.nanmean(errors[:, k]):.3f}" for k in range(4)),
                f"{np.nanmean(late):.4f}",
                f"{held_out.error:.4f} ({held_out.slots})",
                f"{held_out.low:.4f} - {held_out.high:.4f}",
                str(held_out.within),
            )
    console.print(table)


@contextmanager
def server(prompt):
    """Yield the address of the rule critic behind a server in another process."""
    command = [sys.executable, "-c", SERVE, str(TESTS), str(load_prompt(prompt).scale)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def afford(names, options, console):
    table = Table(title=f"Per million agent-steps of IPPO, {options.client} where a model is asked")
    for column in ("task", "critic", "played", "questions", "calls", "cache hits", "tokens in"):
        table.add_column(column, justify="right")
    for column in ("tokens out", "dollars", "s waiting", "s in all", "agent-steps/s"):
        table.add_column(column, justify="right")
    for name in names:
        for label, prompt, template, budget in plans(options):
            with server(prompt) as url, TemporaryDirectory() as folder:
                critic = from_text("critic", template.replace("URL", url))[1]
                done = Train(load_task(name), critic, budget, store=Path(folder))
            table.add_row(name, label, f"{done.steps:,}", *costs(done))
    console.print(table)


def plans(options):
    """Yield label, prompt, critic and agent-steps to play: few where every slot is asked about."""
    model = "openai/fake" if options.client == "llm" else "fake"
    asked = f"{options.client}:model={model},api_base=URL"
    if options.price_in is not None and options.price_out is not None:
        asked += f",price_in={options.price_in},price_out={options.price_out}"
    few, many = options.few, options.budget
    households, summary = "households-v1", "summary-v1"
    yield "none", households, "none", many
    yield "rule", households, "rule", many
    yield "all slots, no cache", households, f"{asked},cache=none", few
    yield "5 % of slots, no cache", households, f"{asked},cache=none,share=0.05", 4 * few
    for prompt in (households, summary):
        yield f"all slots, cache, {prompt}", prompt, f"{asked},prompt={prompt}", few
    yield "distilled", households, f'distilled:{{"teacher": "{asked}"}}', many


def costs(done):
    usage, scale = done.usage, 1e6 / done.steps
    speed = f"{done.steps / done.wall:,.0f}"
    if usage is None or not usage.calls:
        return *("-",) * 7, f"{done.wall * scale:.1f}", speed
    asked = usage.held_out.asked if usage.held_out else usage.scored
    if usage.told:
        print(*usage.told, sep="\n", file=sys.stderr)
    counts = (asked, usage.calls, usage.cache_hits, usage.prompt_tokens, usage.completion_tokens)
    return (
        *(f"{count * scale:,.0f}" for count in counts),
        "unknown" if usage.dollars is None else f"{usage.dollars * scale:.2f}",
        f"{usage.seconds * scale:.1f}",
        f"{done.wall * scale:.1f}",
        speed,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"overhead": overhead, "student": student, "afford": afford}
    parser.add_argument("parts", nargs="*", metavar="|".join(parts), default=[])
    parser.add_argument("--task", nargs="+", default=["pilot-v1", "fontana-v1"])
    parser.add_argument("--budget", type=int, default=1_000_000, help="agent-steps of a training")
    parser.add_argument(
        "--few", type=int, default=50_000, help="the same where all slots are asked"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--client", choices=("openai-http", "llm"), default="openai-http")
    parser.add_argument("--price-in", type=float, help="dollars per million tokens of prompts")
    parser.add_argument("--price-out", type=float, help="dollars per million tokens of replies")
    options = parser.parse_args()
    for part in options.parts or parts:
        parts[part](options.task, options, Console(width=200))


if __name__ == "__main__":
    main()
