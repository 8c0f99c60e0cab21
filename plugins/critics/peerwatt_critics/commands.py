"""The commands `peerwatt critics serve` and `peerwatt critics prompts`."""

from __future__ import annotations

import contextlib
import threading
from importlib import resources
from pathlib import Path
from typing import Annotated

from tyro import conf

from peerwatt.errors import PeerWattError
from peerwatt_critics.local_model import MODEL, serving
from peerwatt_critics.prompting import load_prompt, prompt_names


def serve(port: int = 8135) -> None:
    """Serve the language model SmolLM2-135M on this computer, until Ctrl-C.

    It needs no key and no network: for trying out critics that ask a model. Of fairness it knows
    next to nothing.

    Args:
        port: where to listen, on 127.0.0.1; 0 takes a free one.
    """
    # The engine answers in threads of its own.
    with contextlib.suppress(KeyboardInterrupt), serving(port) as address:
        run = "peerwatt run --task pilot-v1 --algorithm ippo --budget 50k --seeds 1"
        sampled = "--critic.every 300 --critic.concurrency 1"
        print(f"{MODEL} at {address}, until Ctrl-C; to have it score 6 of 1,504 slots:")
        for critic, model in (("openai-http", MODEL), ("llm", f"openai/{MODEL}")):
            print(
                f"\n{run} \\\n    --critic {critic} --critic.model {model} \\\n"
                f"    --critic.api-base {address} {sampled}"
            )
        print(flush=True)
        threading.Event().wait()
    print(f"{MODEL} is no longer served.")


def prompts(name: Annotated[str, conf.Positional] = "", toml: bool = False) -> None:
    """List the prompts of critics that ask a language model, or show what one says to the model.

    Args:
        name: a prompt, or the path of your own .toml file; without one, all are listed.
        toml: print the file of the prompt, as a beginning of your own.
    """
    if not name:
        if toml:
            raise PeerWattError("--toml prints the file of one prompt: name it.")
        width = max(map(len, prompt_names()))
        for each in prompt_names():
            prompt = load_prompt(each)
            print(f"{each:<{width}}  {prompt.digest[:8]}  {prompt.summary}")
    elif toml:
        load_prompt(name)  # tells what is wrong with it
        own = resources.files(__package__) / "prompts" / f"{name}.toml"
        file = own if name in prompt_names() else Path(name)
        print(file.read_text("utf-8"), end="")
    else:
        print(load_prompt(name).told(), end="")
