"""Laws of algorithms and their policies, held on four small communities.

N = 2 and N = 20 households, with and without storage, each with an action space of its own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peerwatt.community import Task
from peerwatt.env import BATTERY_ACTIONS, Scenarios, VectorMarket, evaluation_scenarios
from peerwatt.errors import PeerWattError
from peerwatt.fairness import Shaping, score_slots
from peerwatt.runs.resume import Checkpoints
from peerwatt.runs.stopping import RunStopped
from peerwatt.runs.training import ShapedMarket, TrainingRun
from peerwatt.submissions.guards import (
    ENTRY_LEVEL,
    MAX_BYTES,
    MAX_POLICY_FILES,
    check_safetensors,
    names_in,
    parse_object,
)
from peerwatt.testing import generators
from peerwatt.testing.communities import SIZES, Size, community
from peerwatt.testing.frame import Check, NotApplicable, Subject, Violation, during

BUDGET_PER_HOUSEHOLD = 4000
"""Agent-steps per household that an algorithm is given if no budget is named."""

_HEADS = ("price level", "quantity", "battery level")
_SOURCE = "draw from the generator that you are handed only, and seed torch.Generator from it"

Actions = NDArray[np.int64]
Look = Callable[[NDArray[np.float32], NDArray[np.bool_]], Any]


class _Trained(NamedTuple):
    policy: Any
    steps: int
    budget: int
    files: dict[str, bytes]
    touched: list[str]
    """Process-wide generators that training left otherwise than it found them."""


class _Overdrawn(Exception):
    """The algorithm went on after its budget."""


class _WatchedRun(TrainingRun):
    """Stops an algorithm that plays more than its budget, which might go on for ever."""

    def envs(self, num_envs: int) -> ShapedMarket:
        """Return communities that end with the budget."""
        market = super().envs(num_envs)
        play = market.step

        def step(actions: Any) -> Any:
            if self.agent_steps + market.num_envs * market.num_agents > self.budget:
                raise _Overdrawn
            return play(actions)

        market.step = step  # type: ignore[method-assign]
        return market


def _train(
    examined: Subject,
    size: Size,
    validations: int = 0,
    checkpoints: Checkpoints | None = None,
) -> _Trained:
    """Train on the community of `size`, afresh or from a checkpoint, and save what comes out."""
    task = community(size)
    budget = examined.budget or BUDGET_PER_HOUSEHOLD * size.households
    if not examined.spec.trainable:
        budget = 0
    critic: Any = SimpleNamespace(score=score_slots)
    run = _WatchedRun(
        task,
        seed=1,
        budget=budget,
        critic=critic,
        shaping=Shaping(),
        validations=validations,
        checkpoints=checkpoints,
    )
    before = generators.state()
    with during(f"training on {size.title}"):
        policy = examined.make().train(run)
        for method in ("act", "save"):
            examined.require(
                callable(getattr(policy, method, None)),
                f"train returned {type(policy).__name__}, which has no method {method!r}: return a "
                "peerwatt.evaluation.Policy.",
            )
        run.finish(policy)
        with TemporaryDirectory() as folder:
            policy.save(Path(folder))
            files = {
                str(path.relative_to(folder)): path.read_bytes()
                for path in sorted(Path(folder).rglob("*"))
                if path.is_file()
            }
    return _Trained(policy, run.agent_steps, budget, files, generators.touched(before))


def _trained(examined: Subject, size: Size) -> _Trained:
    return examined.once(size, partial(_train, examined, size))


def _each(examined: Subject) -> Iterator[tuple[Size, Task, _Trained]]:
    for size in SIZES:
        yield size, community(size), _trained(examined, size)


def _episode(
    policy: Any, task: Task, scenarios: Scenarios | None = None, look: Look | None = None
) -> Actions:
    """Return the actions [T, B, N, 3] of an episode of `policy`, from one generator.

    `look` is called instead of the policy, with observations and mask that may be written to.
    """
    market = VectorMarket(task, scenarios=scenarios or evaluation_scenarios(task, "test"))
    generator = np.random.default_rng(5)
    observation = market.reset()
    played = []
    for _ in range(task.horizon):
        seen = observation.copy()
        if look is not None:
            actions = look(seen, market.action_mask.copy())
        else:
            seen.setflags(write=False)
            actions = policy.act(seen, market.action_mask, generator)
        market.step(actions)
        played.append(np.array(actions, np.int64))
    return np.stack(played)


def _same(one: Actions, other: Actions) -> str:
    """Return where two episodes differ first; empty if they are the same."""
    different = np.argwhere(one != other)
    if not len(different):
        return ""
    t, _, household, head = different[0]
    return f"in slot {t}, {_HEADS[head]} of household {household}"


def _check_trains(examined: Subject) -> None:
    examined.require(
        callable(getattr(examined.spec.load(), "train", None)),
        f"{examined.spec.factory} has no method `train`: give it train(self, run) that returns a "
        "policy.",
    )
    examined.require(
        callable(getattr(examined.spec.load_policy(), "load", None)),
        f"{examined.spec.policy} has no class method `load`: give it load(cls, folder).",
    )
    try:
        for _ in _each(examined):
            pass
    except _Overdrawn:
        raise NotApplicable("it was stopped at the end of its budget") from None


def _check_budget(examined: Subject) -> None:
    mend = (
        "count num_envs x num_agents for each step and stop before run.budget"
        if examined.spec.trainable
        else "leave the environment alone, or register it with trainable=True"
    )
    for size in SIZES:
        try:
            trained = _trained(examined, size)
            overdrawn = trained.steps > trained.budget
        except _Overdrawn:
            overdrawn = True
        examined.require(
            not overdrawn,
            f"it plays more than its budget of agent-steps on {size.title}: {mend}.",
        )


def _check_generators(examined: Subject) -> None:
    for _, task, trained in _each(examined):
        before = generators.state()
        _episode(trained.policy, task)
        for method, touched in (("train", trained.touched), ("act", generators.touched(before))):
            examined.require(
                not touched,
                f"{method} draws from or seeds the generator of {' and '.join(touched)} that the "
                f"whole process shares: {_SOURCE}.",
            )


def _compare_files(examined: Subject, one: _Trained, other: _Trained, when: str) -> None:
    names = sorted(set(one.files) | set(other.files))
    for name in names:
        examined.require(
            one.files.get(name) == other.files.get(name),
            f"{name} differs {when}.",
        )


def _check_seed(examined: Subject) -> None:
    for size in (SIZES[1], SIZES[3]):
        with generators.seeded(1):
            one = _train(examined, size)
        with generators.seeded(2):
            other = _train(examined, size)
        _compare_files(examined, one, other, f"between two trainings with the same seed: {_SOURCE}")


_CHILD = """
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    sys.path[:], name, options, budget = json.load(file)
from peerwatt.testing import algorithm, frame
examined = frame.subject("algorithm", name, options=options, budget=budget)
trained = algorithm._train(examined, algorithm.SIZES[1])
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({name: content.hex() for name, content in trained.files.items()}, file)
"""


def _check_process(examined: Subject) -> None:
    name = f"{examined.plugin.distribution}:{examined.spec.name}"
    given = (sys.path, name, dict(examined.options), examined.budget)
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    with TemporaryDirectory() as folder:
        exchange = Path(folder) / "exchange.json"
        exchange.write_text(json.dumps(given), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, exchange],
            env={**os.environ, "PYTHONHASHSEED": other},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        examined.require(done.returncode == 0, f"it cannot be trained in a new process: {last}.")
        told = json.loads(exchange.read_text(encoding="utf-8"))
    files = {name: bytes.fromhex(content) for name, content in told.items()}
    one = _trained(examined, SIZES[1])
    _compare_files(
        examined,
        one,
        one._replace(files=files),
        "between trainings with the same seed in two processes: let nothing depend on hash(), on "
        "the order of a set, on the clock or on the process",
    )


def _check_validation(examined: Subject) -> None:
    watched = _train(examined, SIZES[1], validations=4)
    _compare_files(
        examined,
        _trained(examined, SIZES[1]),
        watched,
        "if the policy is validated along the way: act must change nothing that training reads, "
        "and draw from its own generator only",
    )


def _check_resume(examined: Subject) -> None:
    size, saves = SIZES[1], 0

    def count() -> None:
        nonlocal saves
        saves += 1

    with TemporaryDirectory() as folder:
        saved = _train(examined, size, checkpoints=Checkpoints(Path(folder), {}, 0.0, count))
    if not saves:
        raise NotApplicable("it does not call run.checkpoint, so an interrupted run begins anew")
    uninterrupted = _trained(examined, size)
    _compare_files(
        examined,
        uninterrupted,
        saved,
        "if checkpoints are saved on the way: let the function that you hand to run.checkpoint "
        "return a state and change nothing",
    )
    for number in sorted({1, (saves + 1) // 2, saves}):
        left = iter(range(number - 1))

        def interrupt(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise RunStopped

        with TemporaryDirectory() as folder:
            with contextlib.suppress(RunStopped):
                _train(examined, size, checkpoints=Checkpoints(Path(folder), {}, 0.0, interrupt))
            gone_on = _train(examined, size, checkpoints=Checkpoints(Path(folder), {}, math.inf))
        _compare_files(
            examined,
            uninterrupted,
            gone_on,
            f"if training is interrupted at checkpoint {number} of {saves} and goes on from there: "
            "hand all that later iterations read to run.checkpoint (weights, optimiser, "
            "normalisers, generators that you spawned, counters), put it back after run.resume, "
            "and do not reset the environments then",
        )


def _check_actions(examined: Subject) -> None:
    for size, task, trained in _each(examined):
        market = VectorMarket(task)
        nvec, n = np.array(market.action_nvec), market.num_agents
        first = np.concatenate([[0], np.cumsum(nvec)[:-1]])
        generator = np.random.default_rng(5)

        def look(
            seen: Any, mask: Any, trained: _Trained = trained, size: Size = size, n: int = n,
            nvec: Any = nvec, first: Any = first, generator: Any = generator,
            allowed: Any = market.action_mask,
        ) -> Any:  # fmt: skip
            with during(f"playing {size.title}"):
                actions = trained.policy.act(seen, mask, generator)
            array, shape = np.asarray(actions), (len(seen), n, 3)
            examined.require(
                array.dtype.kind in "iu" and array.shape == shape,
                f"act returns {array.dtype} {array.shape} on {size.title}: return integers "
                f"{shape}, [B, N, 3].",
            )
            outside = np.argwhere((array < 0) | (array >= nvec))
            if len(outside):
                head = outside[0][2]
                raise Violation(
                    f"{examined.title}: act returns {_HEADS[head]} {array[tuple(outside[0])]} on "
                    f"{size.title}, where it must lie in 0..{nvec[head] - 1}: take the sizes from "
                    "run.envs(1).action_nvec."
                )
            masked = np.argwhere(~allowed[np.arange(n)[None, :, None], first + array])
            if len(masked):
                _, household, head = masked[0]
                value = int(array[tuple(masked[0])])
                if head == len(_HEADS) - 1:
                    raise Violation(
                        f"{examined.title}: act returns battery level {value} "
                        f"({BATTERY_ACTIONS[value]!r}) for household {household} on {size.title}, "
                        "which has no battery: a home without a battery may only 'idle', and "
                        "action_mask tells which these are."
                    )
                raise Violation(
                    f"{examined.title}: act returns {_HEADS[head]} {value} for "
                    f"household {household} on {size.title}, which its row of action_mask rules "
                    "out: choose among the actions where the mask is true."
                )
            return actions

        _episode(None, task, look=look)


def _check_observations(examined: Subject) -> None:
    for size, task, trained in _each(examined):
        generator = np.random.default_rng(5)

        def look(
            seen: Any, mask: Any, trained: _Trained = trained, generator: Any = generator
        ) -> Any:
            before = seen.copy(), mask.copy()
            actions = trained.policy.act(seen, mask, generator)
            unchanged = all(
                np.array_equal(now, then) for now, then in zip((seen, mask), before, strict=True)
            )
            examined.require(
                unchanged, "act changes the observations or the mask in place: work on a copy."
            )
            return actions

        _episode(None, task, look=look)
        with during(f"playing {size.title} with read-only observations: work on a copy"):
            _episode(trained.policy, task)


def _check_memory(examined: Subject) -> None:
    load = examined.spec.load_policy().load
    for size, task, trained in _each(examined):
        earlier = evaluation_scenarios(task, "validation")
        try:
            with TemporaryDirectory() as folder:
                _write(Path(folder), trained.files)
                fresh, again, used = (load(Path(folder)) for _ in range(3))
            one, other = _episode(fresh, task), _episode(again, task)
            _episode(used, task, earlier)
        except Exception:
            raise NotApplicable("the policy cannot be read back and played") from None
        if _same(one, other):
            raise NotApplicable("it does not play an episode twice alike, without a memory, too")
        where = _same(one, _episode(used, task))
        examined.require(
            not where,
            f"act remembers an earlier episode: after one, the next on {size.title} is another "
            f"{where}, than for a policy just loaded: keep nothing between two calls of act.",
        )


def _check_same_play(examined: Subject) -> None:
    for size, task, trained in _each(examined):
        with generators.seeded(1):
            one = _episode(trained.policy, task)
        with generators.seeded(2):
            other = _episode(trained.policy, task)
        where = _same(one, other)
        examined.require(
            not where,
            f"the same policy plays the same episode of {size.title} twice and differs {where}: "
            f"{_SOURCE}, and keep nothing between two calls of act.",
        )


def _check_rows(examined: Subject) -> None:
    for size, task, trained in _each(examined):
        here = evaluation_scenarios(task, "test")
        there = evaluation_scenarios(task, "validation")
        row = 1
        mixed = Scenarios(there.key.copy(), there.start.copy())
        mixed.key[row], mixed.start[row] = here.key[row], here.start[row]
        one = _episode(trained.policy, task, here)[:, row : row + 1]
        other = _episode(trained.policy, task, mixed)[:, row : row + 1]
        where = _same(one, other)
        examined.require(
            not where,
            f"what row {row} of a batch does on {size.title} depends on what other rows show "
            f"({where}): rows are separate episodes, so take no mean, rank or the like over them.",
        )


def _check_round_trip(examined: Subject) -> None:
    for size, task, trained in _each(examined):
        with TemporaryDirectory() as folder, during(f"loading the policy of {size.title}"):
            _write(Path(folder), trained.files)
            loaded = examined.spec.load_policy().load(Path(folder))
        where = _same(_episode(trained.policy, task), _episode(loaded, task))
        examined.require(
            not where,
            f"the policy that was read back plays {size.title} differently {where}: save all that "
            "act reads.",
        )


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _check_files(examined: Subject) -> None:
    for size, _, trained in _each(examined):
        names = trained.files
        examined.require(
            names, f"save writes nothing for {size.title}: write at least policy.json."
        )
        taken = sorted(set(MAX_BYTES) & set(names))
        examined.require(
            not taken,
            f"save writes {', '.join(taken)}, which has another meaning: write policy.json.",
        )
        examined.require(
            len(names) <= MAX_POLICY_FILES,
            f"save writes {len(names)} files for {size.title}, an entry takes at most "
            f"{MAX_POLICY_FILES}: put all tensors into one.",
        )
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _write(folder, names)
            try:
                names_in(folder, ENTRY_LEVEL + 1)
                for name, content in names.items():
                    check = check_safetensors if name.endswith(".safetensors") else parse_object
                    check(content, Path(name))
            except PeerWattError as error:
                sentence = str(error).replace(f"{folder}/", "")
                raise Violation(
                    f"{examined.title}: save writes for {size.title} what no entry may hold: "
                    f"{sentence}"
                ) from None


def _check_damaged(examined: Subject) -> None:
    trained = _trained(examined, SIZES[1])
    load = examined.spec.load_policy().load
    for name, content in trained.files.items():
        damages: dict[str, bytes | None] = {
            "is missing": None,
            "is empty": b"",
            "is cut in half": content[: len(content) // 2],
        }
        if name.endswith(".json"):
            damages["holds {} only"] = b"{}"
        for damage, replacement in damages.items():
            if replacement is not None and replacement.strip() == content.strip():
                continue
            with TemporaryDirectory() as temporary:
                folder = Path(temporary)
                _write(folder, trained.files)
                if replacement is None:
                    (folder / name).unlink()
                else:
                    (folder / name).write_bytes(replacement)
                try:
                    load(folder)
                except PeerWattError:
                    continue
                except (Exception, SystemExit) as error:
                    told = f"raises {type(error).__name__}"
                else:
                    told = "returns a policy all the same"
                raise Violation(
                    f"{examined.title}: where {name} {damage}, load {told}: check what it reads, "
                    "and raise a PeerWattError that says what is wrong."
                )


_TRAINED = ("trains", "budget")
_PLAYS = (*_TRAINED, "actions", "observations")
_REPEATED = (*_PLAYS, "generators", "memory")

CHECKS = (
    Check(
        "trains",
        "It trains on 2 and on 20 households, with and without storage, and returns a policy.",
        _check_trains,
    ),
    Check(
        "budget",
        "It plays no more agent-steps than its budget, and none if it is scripted.",
        _check_budget,
        needs=("trains",),
    ),
    Check(
        "actions",
        "Actions are integers [B, N, 3] inside their space, and none that the mask rules out.",
        _check_actions,
        needs=_TRAINED,
    ),
    Check(
        "observations",
        "The policy changes neither observations nor mask, and read-only ones do.",
        _check_observations,
        needs=(*_TRAINED, "actions"),
    ),
    Check(
        "generators",
        "Neither training nor play touches the random generators of the whole process.",
        _check_generators,
        needs=_PLAYS,
    ),
    Check(
        "same-seed",
        "The same seed gives the same bytes, whatever else drew random numbers in the process.",
        _check_seed,
        needs=(*_PLAYS, "generators"),
    ),
    Check(
        "processes",
        "The same seed gives the same bytes in another process.",
        _check_process,
        needs=(*_PLAYS, "generators", "same-seed"),
    ),
    Check(
        "validation",
        "Validation along the way does not change what is learned.",
        _check_validation,
        needs=(*_PLAYS, "generators", "same-seed"),
    ),
    Check(
        "resume",
        "Training that is interrupted and goes on from a checkpoint gives the same bytes.",
        _check_resume,
        needs=(*_PLAYS, "generators", "same-seed"),
    ),
    Check(
        "memory",
        "What is done in an episode does not depend on the episodes played before it.",
        _check_memory,
        needs=(*_PLAYS, "generators"),
    ),
    Check(
        "same-play",
        "Given the generator, an episode is played the same way every time.",
        _check_same_play,
        needs=_REPEATED,
    ),
    Check(
        "rows",
        "What is done in an episode does not depend on the episodes played beside it.",
        _check_rows,
        needs=(*_REPEATED, "same-play"),
    ),
    Check(
        "round-trip",
        "A policy that was saved and loaded plays identically over whole episodes.",
        _check_round_trip,
        needs=(*_REPEATED, "same-play"),
    ),
    Check(
        "files",
        "A policy is policy.json and safetensors, never a pickle, and of bounded size.",
        _check_files,
        needs=_TRAINED,
    ),
    Check(
        "damaged-files",
        "Files that are missing, empty, cut off or of no content are refused with a sentence.",
        _check_damaged,
        needs=_TRAINED,
    ),
)
