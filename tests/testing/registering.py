"""How the files of broken plugins list their classes."""


def register(into, spec, module, law, says, **changes):
    """Return a decorator that lists a class as the plugin that breaks `law`, told by `says`."""

    def decorate(made):
        fields = {
            "name": made.__name__.lower(),
            "factory": f"{module}:{made.__name__}",
            "summary": made.__name__,
        }
        into.append((law, says, spec(**(fields | changes))))
        return made

    return decorate
