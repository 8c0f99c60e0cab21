"""Hostile submissions: each is refused in one sentence, unexecuted, and nothing is written."""

import hashlib
import importlib
import json
import os
import pickle
import subprocess
import sys

import pytest

CASES = []


def case(fragment, name=None):
    """Register an attack: a function of a `Workshop` and the words by which it is refused."""

    def register(attack):
        CASES.append(pytest.param(attack, fragment, id=name or attack.__name__))
        return attack

    return register


class Payload:
    """Would tell by a file that it was unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def unlink_itself():
    with open("itself", "w"):
        os.remove("itself")


def grow(file, size):
    with file.open("ab") as out:
        out.truncate(size)


# --- files -----------------------------------------------------------------------------------


@case("5,000,001 bytes are more than it may have")
def huge_result(w):
    grow(w.result(), 5_000_001)


@case("bytes are more than it may have (5,000,000)")
def huge_policy(w):
    grow(w.seed(0) / "policy.safetensors", 10**12)


@case("bytes are more than it may have (100,000)")
def huge_entry_file(w):
    grow(w.entry, 100_001)


@case("bytes are more than an entry may have")
def huge_in_sum(w):
    for seed in w.seeds():
        for number in range(6):
            grow(seed / f"part{number}.safetensors", 5_000_000)


@case("holds 65 seeds")
def many_seeds(w):
    for number in range(2, 65):
        w.seed(number).mkdir()


@case("holds 9 files of the policy")
def many_policies(w):
    for number in range(7):
        (w.seed(0) / f"part{number}.json").write_text("{}")


@case("holds 0 files of the policy")
def no_policy(w):
    for file in w.seed(0).glob("policy*"):
        file.unlink()


@case("entry.json: is missing")
def no_entry_file(w):
    w.entry.unlink()


@case("result.json: is missing")
def no_result(w):
    w.result(1).unlink()


@case("run.sh: does not belong here")
def script_beside_the_policy(w):
    (w.seed(0) / "run.sh").write_text("mkdir executed")


@case("conftest.py: does not belong here")
def module_beside_the_entry(w):
    (w.folder / "conftest.py").write_text("import os; os.mkdir('executed')")


@case("policy.pkl: does not belong here")
def pickle_beside_the_policy(w):
    (w.seed(0) / "policy.pkl").write_bytes(pickle.dumps(Payload()))


@case(".git: does not belong here")
def hidden_folder(w):
    (w.folder / ".git").mkdir()


@case("does not belong here")
def folder_in_a_seed(w):
    (w.seed(0) / "more").mkdir()


@case("policy.json: does not belong here")
def folder_named_like_a_file(w):
    (w.seed(0) / "policy.json").unlink()
    (w.seed(0) / "policy.json").mkdir()


@case("\\x1b[2J\\n.json: does not belong here")
def file_name_with_control_characters(w):
    (w.seed(0) / "\x1b[2J\n.json").write_text("{}")


@case("<script>.json: does not belong here")
def file_name_with_html(w):
    (w.seed(0) / "<script>.json").write_text("{}")


@case("Pilot-v1: does not belong here")
def folder_of_no_task(w):
    (w.root / "Pilot-v1").mkdir()


@case("nul.json: has a name that Windows refuses")
def file_name_of_a_device(w):
    (w.seed(0) / "nul.json").write_text("{}")


@case("policy.json: is a link")
def link_to_a_file(w):
    (w.seed(0) / "policy.json").unlink()
    (w.seed(0) / "policy.json").symlink_to("/etc/passwd")


@case("policy.json: is a link")
def link_to_nothing(w):
    (w.seed(0) / "policy.json").unlink()
    (w.seed(0) / "policy.json").symlink_to("../../../../../../nothing")


@case("seed-001: is a link")
def link_to_a_folder(w):
    w.seed(1).rename(w.root.parent / "elsewhere")
    w.seed(1).symlink_to(w.root.parent / "elsewhere")


@case("is a link")
def entry_that_is_a_link(w):
    outside = w.root.parent / "outside"
    w.folder.rename(outside)
    w.folder.symlink_to(outside)


@case("is a hard link")
def hard_link(w):
    (w.seed(0) / "policy.json").unlink()
    os.link(w.seed(1) / "policy.json", w.seed(0) / "policy.json")


@case("is neither a file nor a folder")
def pipe(w):
    (w.seed(0) / "policy.json").unlink()
    os.mkfifo(w.seed(0) / "policy.json")


# --- JSON ------------------------------------------------------------------------------------


def policy(name, text, fragment):
    def attack(w):
        raw = text if isinstance(text, bytes) else text.encode()
        (w.seed(0) / "policy.json").write_bytes(raw)
        w.seal()

    case(f"policy.json: {fragment}", name)(attack)


policy("deep_lists", "[" * 100_000, "is nested more than 20 deep")
policy("deep_objects", '{"a":' * 50 + "1" + "}" * 50, "is nested more than 20 deep")
policy("brackets_in_an_endless_text", '{"a": "[[[[', "holds a text without an end")
policy("not_a_number", '{"a": NaN}', "holds NaN")
policy("infinity", '{"a": [-Infinity]}', "holds -Infinity")
policy("infinite_exponent", '{"a": 1e999}', "holds the number 1e999")
policy("long_number", '{"a": 1' + "0" * 5_000 + "}", "holds a number of 5,001 characters")
policy("key_told_twice", '{"households": 8, "households": 9}', "tells the key 'households' twice")
policy("no_utf8", b'{"a": "\xff\xfe"}', "is no text in UTF-8")
policy("utf16", '{"a": 1}'.encode("utf-16"), "is no")
policy("cut_off", '{"a": ', "is no valid JSON")
policy("two_values", "{} {}", "is no valid JSON")
policy("a_list", "[]", "must be a JSON object")
policy("empty", "", "is no valid JSON")
policy("python", "__import__('os').mkdir('executed')", "is no valid JSON")
policy("long_text", '{"a": "' + "x" * 10_001 + '"}', "holds a text of 10,001 characters")
policy("escaped_null", r'{"a": "\u0000"}', "holds the control character U+0000")
policy("half_a_character", r'{"a": "\ud800"}', "holds the control character U+D800")
policy("turned_text", '{"a": "\u202e"}', "holds the control character U+202E")
policy("control_character_in_a_key", r'{"\u001b[2J": 1}', "holds the control character U+001B")


def lines(name, text, fragment):
    def attack(w):
        (w.seed(0) / "metrics.jsonl").write_text(text)
        w.seal()

    case(f"metrics.jsonl: {fragment}", name)(attack)


lines("row_with_a_text", '{"a": 1}\n{"a": "<b>"}\n', "line 2: a is no number")
lines("row_with_a_list", '{"a": [1]}\n', "line 1: a is no number")
lines("row_with_infinity", '{"a": Infinity}\n', "line 1: holds Infinity")
lines("empty_row", '{"a": 1}\n\n{"a": 1}\n', "line 2: is no valid JSON")
lines("row_without_end", '{"a": 1}', "line 1: does not end")
lines("long_row", '{"a": 1' + " " * 20_000 + "}\n", "line 1: is longer than 20,000 bytes")
lines("many_rows", "{}\n" * 100_001, "has more than 100,000 lines")


# --- fields ----------------------------------------------------------------------------------


def told(name, change, fragment):
    """Change entry.json; its id is made true again."""

    def attack(w):
        w.edit(w.entry, change)
        w.seal_entry()

    case(f"entry.json: {fragment}", name)(attack)


def submitter(key, value):
    return lambda c: c["submitter"].update({key: value})


HTML = "<img src=x onerror=alert(1)>"
told("html_in_the_name", submitter("name", HTML), "submitter.name")
told("ansi_in_the_name", submitter("name", "Ada\x1b[31m"), "holds the control character U+001B")
told("turned_name", submitter("name", "Ada \u202egnp.exe"), "holds the control character U+202E")
told("no_name", submitter("name", ""), "submitter.name")
told("html_in_the_contact", submitter("contact", "a'onclick=alert(1)"), "submitter.contact")
told("invisible_name", submitter("name", "\u3164"), "submitter.name: must have no invisible")
told("name_of_digits", submitter("name", "007"), "submitter.name: must have a letter")
told("piled_marks", submitter("name", "Z" + "\u0300" * 3), "submitter.name: must not pile up")
told("extra_key", lambda c: c.update(surprise=1), "surprise")
told("extra_key_below", lambda c: c["task"].update(surprise=1), "task.surprise")
told("missing_key", lambda c: c.pop("licence"), "licence")
told("text_for_a_number", lambda c: c.update(budget="2000"), "budget")
told("truth_for_a_number", lambda c: c.update(budget=True), "budget")
told("number_for_a_text", lambda c: c.update(licence=7), "licence")
told("list_for_an_object", lambda c: c.update(disclosure=[]), "disclosure")
told("script_address", lambda c: c.update(code_url="javascript:alert(1)"), "code_url")
told(
    "plain_http",
    lambda c: c.update(code_url="http://example.org/x"),
    "code_url: must be an https address such as https://example.org/code;",
)
told("address_with_password", lambda c: c.update(code_url="https://a:b@example.org"), "code_url")
told("address_with_html", lambda c: c.update(code_url='https://example.org/"><b>'), "code_url")
told("name_that_climbs", lambda c: c["algorithm"].update(name="../../x"), "algorithm.name")
told("version_that_climbs", lambda c: c["algorithm"].update(version=".."), "algorithm.version")
told("absolute_task", lambda c: c["task"].update(name="/etc/cron-v1"), "task.name")
told("file_that_climbs", lambda c: c["runs"][0]["files"].update({"../x": "0" * 64}), "runs.0.files")
told("absolute_file", lambda c: c["runs"][0]["files"].update({"/etc/x": "0" * 64}), "runs.0.files")
told("file_that_is_not_there", lambda c: c["runs"][0]["files"].update(x="0" * 64), "runs: names")
told("seed_told_twice", lambda c: c["runs"].append(c["runs"][0]), "runs: tells the seeds [0, 1, 0]")
told("correction_of_nothing", lambda c: c.update(supersedes="0" * 64), "supersedes: there is no")
told("future_schema", lambda c: c.update(schema_version="2"), "schema_version")


@case("entry_id: is not the SHA-256 of the rest")
def false_id(w):
    w.edit(w.entry, lambda c: c.update(licence="GPL-3.0"))


@case("tells the key 'entry_id' twice")
def key_of_the_entry_told_twice(w):
    w.replace(w.entry, '"entry_id"', '"entry_id": "", "entry_id"')


@case("belongs into the folder pilot-v1/ippo/0.1.0/")
def in_the_folder_of_another(w):
    w.folder.rename(w.folder.with_name("0" * 16))


@case("belongs into the folder pilot-v1/")
def in_the_folder_of_another_algorithm(w):
    other = w.root / "pilot-v1" / "better" / "0.1.0"
    other.mkdir(parents=True)
    w.folder.rename(other / w.folder.name)


# --- safetensors -----------------------------------------------------------------------------


def tensors(name, make, fragment):
    """Replace the tensors of seed 0 by what `make` does of the true bytes."""

    def attack(w):
        file = w.seed(0) / "policy.safetensors"
        file.write_bytes(make(file.read_bytes()))
        w.seal()

    case(f"policy.safetensors: {fragment}", name)(attack)


def with_header(change):
    """Return a function that changes the header and leaves the data."""

    def make(raw):
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        text = change(header)
        text = text if isinstance(text, str) else json.dumps(header)
        return len(text).to_bytes(8, "little") + text.encode() + raw[8 + size :]

    return make


def first_tensor(**changes):
    return with_header(lambda header: header["0"].update(changes))


tensors("pickle_as_tensors", lambda _: pickle.dumps(Payload()), "is no safetensors file")
tensors("zip_as_tensors", lambda _: b"PK\x03\x04" + b"\0" * 99, "is no safetensors file")
tensors("truncated_tensors", lambda raw: raw[:-4], "header: tells of")
tensors("header_cut_off", lambda raw: raw[:40], "is no safetensors file")
tensors("few_bytes", lambda raw: raw[:5], "is no safetensors file")
tensors("endless_header", lambda raw: b"\xff" * 8 + raw[8:], "is no safetensors file")
tensors("bytes_behind", lambda raw: raw + b"\0", "header: tells of")
tensors("header_of_no_json", with_header(lambda _: "{'a': 1}"), "header: is no valid JSON")
tensors("deep_header", with_header(lambda _: "[" * 5_000), "header: is nested more than")
tensors("list_as_header", with_header(lambda _: "[]"), "header: must be a JSON object")
tensors(
    "tensor_told_twice",
    with_header(lambda h: json.dumps(h)[:-1] + ', "0": 1}'),
    "header: tells the key '0' twice",
)
tensors("strange_dtype", first_tensor(dtype="O"), "tensor '0': has a dtype that is not allowed")
tensors("no_dimension", first_tensor(shape=[0]), "tensor '0': must have a shape")
tensors("negative_dimension", first_tensor(shape=[-1, -8]), "tensor '0': must have a shape")
tensors("dimension_of_truth", first_tensor(shape=[True]), "tensor '0': must have a shape")
tensors("many_dimensions", first_tensor(shape=[1] * 9), "tensor '0': must have a shape")
tensors("vast_dimension", first_tensor(shape=[2**62, 4]), "tensor '0': has data_offsets that")
tensors("offsets_backwards", first_tensor(data_offsets=[8, 0]), "tensor '0': has data_offsets that")
tensors("offset_of_text", first_tensor(data_offsets=["0", 4]), "tensor '0': must have two")
tensors("tensor_with_more", first_tensor(path="/etc/passwd"), "tensor '0': must have dtype")
tensors("metadata_of_numbers", with_header(lambda h: h.update(__metadata__={"a": 1})), "__meta")


def overlapping(header):
    span = header["1"]["data_offsets"]
    size = span[1] - span[0]
    header["1"]["data_offsets"] = [0, size]


tensors("overlapping_tensors", with_header(overlapping), "header: leaves gaps or lets tensors")


# --- results ---------------------------------------------------------------------------------


def result(name, change, fragment):
    """Change the result of seed 0, and make all hashes true again."""

    def attack(w):
        w.edit(w.result(), change)
        w.seal(configuration=name != "other_configuration")

    case(f"result.json: {fragment}", name)(attack)


def metric(name, amount):
    return lambda r: r["test"]["metrics"][name].__setitem__(0, amount)


def more(record, amount):
    """Let the community pay `amount` less in the first episode, and nobody save it."""
    record["test"]["cost"][0] -= amount
    record["test"]["metrics"]["operator_revenue"][0] -= amount


result("extra_key_in_a_result", lambda r: r.update(surprise=1), "surprise")
result("text_for_a_seed", lambda r: r.update(seed="0"), "seed")
result("negative_seed", lambda r: r.update(seed=-1), "seed")
result("seed_of_another_folder", lambda r: r.update(seed=7), "seed: 7 is not that of the folder")
result("escape_in_the_command", lambda r: r.update(command="\x1b]0;x\x07"), "holds the control")
result("deep_options", lambda r: r["algorithm"]["options"].update(a=nested(30)), "is nested more")
result("cost_less_by_0.001", lambda r: more(r, 0.001), "test.savings.0")
result("score_above_one", metric("ftg", 1.001), "test.metrics.ftg.0")
result("ratio_above_one", metric("p2p_ratio", 1.01), "test.metrics.p2p_ratio.0")
result("more_than_all_used", metric("self_consumption", 1.01), "test.metrics.self_consumption.0")
result("negative_share", metric("self_sufficiency", -0.01), "test.metrics.self_sufficiency.0")
result("negative_peak", metric("peak_import_kw", -1.0), "test.metrics.peak_import_kw.0")
result("negative_cycles", metric("battery_cycles", -1.0), "test.metrics.battery_cycles.0")
result("ftg_of_another", metric("ftg", 0.123), "test.metrics.ftg.0: 0.123 is not volume_kwh /")
result("bad_score_left_out", metric("ftb", None), "test.metrics.ftb.0: is undefined")
result("score_of_nothing", metric("losers", None), "test.metrics.losers.0: is undefined")
result("vast_price", metric("mean_price", 1e6), "test.metrics.mean_price.0: 1000000 is not between")
result("price_below_0", metric("mean_price", -0.1), "test.metrics.mean_price.0: -0.1 is not")
result("metric_left_out", lambda r: r["test"]["metrics"].pop("losers"), "test.metrics: losers is")
result("negative_time", lambda r: r["timings"].update(wall=-1.0), "timings.wall: -1 is negative")
result("other_code", lambda r: r["algorithm"].update(source="x"), "algorithm.source: 'x', but")
result("unknown_metric", lambda r: r["test"]["metrics"].update(iq=[1.0] * 32), "test.metrics.iq")
result("surplus_of_an_auction", metric("market_surplus", 0.5), "test.metrics.market_surplus.0")
result("revenue_of_another", metric("operator_revenue", 1.0), "test.metrics.operator_revenue.0")
result("more_steps_than_allowed", lambda r: r.update(agent_steps=2_001), "agent_steps")
result("other_options", lambda r: r["algorithm"]["options"].update(gamma=0.5), "algorithm: does")
result("other_budget", lambda r: r.update(budget=2_500), "budget: does not agree")
result(
    "other_configuration", lambda r: r.update(config_hash="0" * 64), "config_hash: is not that of"
)
result("other_task", lambda r: r["task"].update(content_hash="0" * 64), "task: does not agree")
result("other_shaping", lambda r: r["shaping"].update(ftg=9.0), "config_hash: does not")
result("other_households", lambda r: r["households"].reverse(), "households: are not those of")
result("shorter_episodes", lambda r: r["task"].update(slots=24), "households: are not those of")


def nested(depth):
    return [nested(depth - 1)] if depth else 1


def easier(record):
    """Pretend that the grid alone would have cost more, and that all of it was saved."""
    test = record["test"]
    households = len(record["households"])
    test["grid_cost"][0] += 1.0
    test["metrics"]["operator_revenue_grid"][0] += 1.0
    for name in ("savings", "grid_bills"):
        test[name][0] = [value + 1.0 / households for value in test[name][0]]


result("easier_scenarios", easier, "test.grid_cost: is not that of the episodes")


@case("result.json: has another SHA-256 than entry.json tells")
def metric_edited_by_a_thousandth(w):
    w.edit(w.result(), lambda r: r["test"]["metrics"]["ftb"].__setitem__(0, 0.001))


@case("is not named in entry.json")
def seed_left_out(w):
    w.edit(w.entry, lambda c: c["runs"].pop(0))
    w.seal_entry()


@case("result.json: files.../x")
def file_outside(w):
    w.edit(w.result(), lambda r: r["files"].update({"../x": "0" * 64}))
    digest = hashlib.sha256(w.result().read_bytes()).hexdigest()
    w.edit(w.entry, lambda c: c["runs"][0]["files"].update({"result.json": digest}))
    w.seal_entry()


@case("policy.safetensors: has another SHA-256")
def policy_of_another_training(w):
    file = w.seed(0) / "policy.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(bytes(raw))


@case("result.json: files: are not those of its folder")
def policy_exchanged_in_the_entry_only(w):
    file = w.seed(0) / "metrics.jsonl"
    file.write_text('{"agent_steps": 1}\n')
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    w.edit(w.entry, lambda c: c["runs"][0]["files"].update({"metrics.jsonl": digest}))
    w.seal_entry()


@case("critic.json: is not named in entry.json")
def file_beside_those_that_are_bound(w):
    (w.seed(0) / "critic.json").write_text("{}")


@case("seed-001: has the very policy of seed 0")
def one_training_as_two_seeds(w):
    for file in w.seed(0).glob("policy*"):
        (w.seed(1) / file.name).write_bytes(file.read_bytes())
    w.seal()


def alike(name, change, fragment):
    """Change entry.json and all results alike, and make all hashes true again."""

    def attack(w):
        w.edit_all(change)
        w.seal()

    case(fragment, name)(attack)


def no_training(content):
    content.update(budget=0)
    if "agent_steps" in content:
        content.update(agent_steps=0, curve=[])


def owner(part, distribution):
    return lambda content: content[part].update(distribution=distribution)


def shaped(**changes):
    def change(content):
        if "shaping" in content:
            content["shaping"].update(changes)

    return change


alike("shaping_with_more", shaped(iq=1.0), "shaping: must have ftg, fbs")
alike("shaping_of_truth", shaped(ftg=True), "shaping.ftg: is of another type")
alike("shaping_below_0", shaped(ftg=-1.0), "shaping: shaping.ftg must be a number that is not")
alike("shaping_without_end", shaped(warm=0.9), "shaping: shaping.warm and shaping.ramp are shares")


def deficit(content):
    """Let a mechanism that may run a deficit pay in more than its trade is worth."""
    importlib.import_module("peerwatt_mechanisms.vcg")  # which makes a folder for its own cache
    content["mechanism"].update(name="vcg")
    if "test" in content:
        content["test"]["metrics"]["market_surplus"][0] -= 1e3
        content["test"]["savings"][0][0] += 1e3


alike("boundless_deficit", deficit, "test.metrics.market_surplus.0: -1000 is more than")
for spelling in ("PeerWatt", "Peerwatt", "peerwatt-", "peerwatt.", "peerwatt_", "_peerwatt"):
    for part in ("algorithm", "critic", "mechanism"):
        fragment = f"{part}.distribution: '{spelling}' is another spelling of peerwatt"
        case(fragment, f"{part}_of_{spelling}")(
            lambda w, part=part, spelling=spelling: (w.edit_all(owner(part, spelling)), w.seal())
        )


alike("learner_without_budget", no_training, "budget: 'ippo' cannot learn with 0")
alike("algorithm_we_do_not_have", lambda c: c["algorithm"].update(name="ppo"), "no algorithm 'ppo'")
alike("critic_we_do_not_have", lambda c: c["critic"].update(name="nice"), "no critic 'nice'")
alike("mechanism_we_do_not_have", lambda c: c["mechanism"].update(name="x"), "no mechanism 'x'")
alike("single_file", owner("algorithm", "file:x.py"), "is a single file")
alike("single_file_as_critic", owner("critic", "file:x.py"), "is a single file")
told("our_task_misspelt", owner("task", "PeerWatt"), "task.distribution: 'PeerWatt' is another")
told(
    "our_task_as_another's", owner("task", "mallory"), "task.distribution: 'pilot-v1' is a task of"
)


alike(
    "options_left_out",
    lambda c: c["mechanism"].update(name="call", options={}),
    'mechanism.options: {} are recorded as {"theta": 0.5}',
)
alike(
    "number_as_a_text_in_the_options",
    lambda c: c["mechanism"].update(name="call", options={"theta": "0.5"}),
    'mechanism.options: {"theta": "0.5"} are recorded as {"theta": 0.5}',
)
alike(
    "options_that_the_critic_does_not_have",
    lambda c: c["critic"].update(options={"a": 1}),
    "critic.options: unknown option",
)
told("day_that_is_none", lambda c: c.update(created_utc="2025-02-30T00:00:00Z"), "created_utc")


def pickle_as_policy(w):
    (w.seed(0) / "policy.safetensors").write_bytes(pickle.dumps(Payload()))
    w.seal()


# --- what a critic says of itself --------------------------------------------------------------


def accounts(w, **usage):
    """Add an account of the critic to the first result, consistent but for `usage`."""
    honest = {"slots": 10, "undefined": 4, "scored": 6}
    w.edit(w.result(), lambda r: r.update(critic_usage=honest | usage))
    w.seal()


HELD_OUT = {
    "slots": 9, "error": 0.15, "low": 0.1, "high": 0.2, "bound": 0.2, "within": True, "asked": 9,
}  # fmt: skip

for words, usage in {
    "critic_usage.slots: 10 is not the sum of its parts, 11": {"scored": 7},
    "critic_usage.slots: 1000 is more than the": {"slots": 1000, "scored": 996},
    "critic_usage.retries: 2 is more than the 1 calls": {"calls": 1, "retries": 2},
    "critic_usage.held_out.error: 0.5 is not in its interval": {
        "held_out": HELD_OUT | {"error": 0.5}
    },
    "critic_usage.held_out.asked: 9 is less than the 8 slots held out and the 2 without": {
        "held_out": HELD_OUT | {"slots": 8, "unanswered": 2}
    },
    "critic_usage.held_out.unjudged: 1 is more than the 0 slots": {
        "held_out": HELD_OUT | {"unjudged": 1}
    },
    "critic_usage.held_out.within: is true, unlike the interval": {
        "held_out": HELD_OUT | {"bound": 0.1}
    },
    "critic_usage.calls: ": {"calls": -1},
    "critic_usage.dollars: ": {"dollars": 1e13},
    "critic_usage.cost: ": {"cost": 1},
    "critic_usage.latencies: ": {"latencies": [0.1] * 201},
    "critic_usage.abstained: ": {"abstained": {f"reason {n}": 0 for n in range(65)}},
    "critic_usage.abstained.": {"abstained": {"x" * 201: 0}},
    "critic_usage.models: ": {"models": ["m"] * 65},
    "critic_usage.transcript: ": {"transcript": "../../etc/passwd"},
    "holds the control character U+001B": {"models": ["\x1b[2J"]},
    "disclosure.llm_in_training: is false, but the critic 'none' asked a model": {"calls": 1},
}.items():  # fmt: skip
    case(words, f"account of {'_'.join(usage)}, {words[:40]}")(
        lambda w, usage=usage: accounts(w, **usage)
    )


@case("algorithm.contents: only a critic names files that it read")
def an_algorithm_that_reads(w):
    w.edit_all(lambda c: c["algorithm"].update(contents={"prompt": "0" * 64}))
    w.seal()


@case("critic.contents: 'none' reads no files")
def contents_of_a_critic_without_files(w):
    """Would make one configuration pass for several."""
    w.edit_all(lambda c: c["critic"].update(contents={"prompt": "0" * 64}))
    w.seal()


@case("critic.contents")
def contents_of_many_files(w):
    w.edit_all(lambda c: c["critic"].update(contents={f"a{n}": "0" * 64 for n in range(65)}))
    w.seal()


def a_stranger_s_algorithm(w):
    w.edit_all(lambda c: c["algorithm"].update(distribution="mallory", version="1.0"))
    w.edit_all(lambda c: c["mechanism"].update(name="x"))
    w.seal()


def test_there_are_enough():
    assert len(CASES) >= 40
    assert len({parameters.id for parameters in CASES}) == len(CASES)


@pytest.mark.parametrize(("attack", "fragment"), CASES)
def test_hostile_submissions_are_refused_in_a_sentence(
    learner, submit, watched, tmp_path, monkeypatch, attack, fragment
):
    attack(learner)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = listing(tmp_path)
    with watched:
        code, out, err = submit("validate", learner.root)
    assert code == 2
    (sentence,) = err.splitlines()
    assert sentence.startswith("peerwatt: ") and sentence.endswith(".")
    assert fragment in sentence
    assert sentence.isprintable() and len(sentence) < 1_500
    assert sentence.count(str(learner.root)) >= 1
    assert "1 refused" in out or "does not belong here" in sentence
    assert listing(tmp_path) == before


@pytest.mark.parametrize("act", [lambda: pickle.loads(pickle.dumps(Payload())), unlink_itself])
def test_the_watch_sees_what_it_must(watched, tmp_path, monkeypatch, act):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError), watched:
        act()


TRIPWIRE = """
import pathlib
pathlib.Path(__file__).with_name("tripped").touch()
"""


@pytest.mark.parametrize("attack", [pickle_as_policy, a_stranger_s_algorithm])
def test_no_stranger_s_plugin_is_loaded_on_the_command_line(learner, tmp_path, attack):
    attack(learner)
    site = tmp_path / "site"
    (site / "mallory-1.0.dist-info").mkdir(parents=True)
    (site / "mallory.py").write_text(TRIPWIRE)
    for name, text in (
        ("METADATA", "Metadata-Version: 2.1\nName: mallory\nVersion: 1.0\n"),
        ("entry_points.txt", "[peerwatt]\nmallory = mallory\n"),
    ):
        (site / "mallory-1.0.dist-info" / name).write_text(text)

    def peerwatt(*words):
        script = "import sys; from peerwatt.cli.main import main; main()"
        environment = {**os.environ, "PYTHONPATH": str(site)}
        command = [sys.executable, "-c", script, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    validated = peerwatt("submit", "validate", learner.root)
    (sentence,) = validated.stderr.splitlines()
    assert validated.returncode == 2 and sentence.startswith("peerwatt: ")
    verified = peerwatt("submit", "verify", learner.folder)
    assert verified.returncode == 2 and len(verified.stderr.splitlines()) == 1
    assert not (site / "tripped").exists()
    peerwatt("list")
    assert (site / "tripped").exists(), "the tripwire is none"


def listing(folder):
    """Return every path below with what tells a change; links are not followed."""
    return {
        (str(path), state.st_size, state.st_mtime_ns, state.st_nlink)
        for path in folder.rglob("*")
        for state in [path.lstat()]
    }
