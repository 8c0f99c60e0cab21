"""A process that asks questions: python spender.py FOLDER RUN COUNT CAP DIE_AT.

Every request that reaches the model is a line of FOLDER/RUN.requests, every reply that leaves it
one of FOLDER/RUN.replies. The process kills itself when so many replies have left.
"""

import json
import os
import signal
import sys
from pathlib import Path

from scripted_model import ScriptedTransport, VirtualTime, open_path, reply, valid

from peerwatt_critics.calls import background
from peerwatt_critics.calls.options import CallOptions

folder, run = Path(sys.argv[1]), sys.argv[2]
count, cap, die_at = map(int, sys.argv[3:])
requests = (folder / f"{run}.requests").open("a")
replies = (folder / f"{run}.replies").open("a")
left = 0


def told(file, line):
    file.write(f"{line}\n")
    file.flush()


def step(request):
    """Reply validly, but need a repair for every third question."""
    global left
    left += 1
    if left == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    told(replies, json.dumps([message["content"] for message in request.messages]))
    (question,) = json.loads(request.messages[-1]["content"])
    bad = int(question.split()[-1]) % 3 == 0 and len(request.messages) == 2
    return reply("no" if bad else valid(request))


class Counted(ScriptedTransport):
    async def complete(self, request):
        told(requests, json.dumps([message["content"] for message in request.messages]))
        return await super().complete(request)


background.new_loop = VirtualTime
path = open_path(
    Counted([step] * 10_000),
    CallOptions(model="scripted", max_calls=cap),
    store=folder,
    entry="entry",
    run=run,
)
outcomes = path.ask([f"{run} {number}" for number in range(count)])
path.close(True)
print(json.dumps([sum(outcome.scores is not None for outcome in outcomes), left]))
