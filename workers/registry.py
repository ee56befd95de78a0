"""The handlers of a worker, loaded from modules by name."""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jobledger.workers.errors import HandlerLoadError
from jobledger.workers.handler import Handler

MAX_HANDLERS = 500
MAX_ERROR_CHARACTERS = 500


class Registry:
    """Handlers by name."""

    def __init__(self, handlers: Iterable[Handler[Any, Any]] = ()) -> None:
        self._handlers: dict[str, Handler[Any, Any]] = {}
        self.modules: list[str] = []
        """Names of the modules that it was loaded from."""
        for one in handlers:
            self.add(one)

    def add(self, handler: Handler[Any, Any]) -> None:
        """Take in a handler; raises HandlerLoadError for a second one of the same name or an unusable annotation."""
        known = self._handlers.get(handler.name)
        if known is handler:
            return
        if known is not None:
            raise HandlerLoadError(
                f"Handler '{handler.name}' is defined twice: {_place(known)} and {_place(handler)}; rename one."
            )
        if len(self._handlers) >= MAX_HANDLERS:
            raise HandlerLoadError(f"More than {MAX_HANDLERS} handlers in one worker; spread them over several.")
        _ = handler.adapter  # built now, so that a bad annotation is found at the start and not by the first job
        self._handlers[handler.name] = handler

    @property
    def names(self) -> list[str]:
        """Names of all handlers, sorted."""
        return sorted(self._handlers)

    def get(self, name: str) -> Handler[Any, Any] | None:
        """The handler of that name."""
        return self._handlers.get(name)

    def any_in(self, run_in: str) -> bool:
        """Whether a handler is to be run there."""
        return any(one.run_in == run_in for one in self._handlers.values())


def load_handlers(modules: Sequence[str]) -> Registry:
    """Import the modules and collect the handlers in them; raises HandlerLoadError with one clear sentence."""
    registry = Registry()
    for name in modules:
        for one in _handlers_of(_import(name)):
            registry.add(one)
        registry.modules.append(name)
    return registry


def _not_found(name: str) -> str:
    return (
        f"Handler module '{name}' was not found; JOBLEDGER_HANDLERS takes names as in `import`, and the folder "
        f"that holds the module must be on PYTHONPATH."
    )


def _import(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        guess = re.sub(r"[^\w.]+", "_", re.sub(r"[./\\]+", ".", name.removesuffix(".py"))).strip(".") or "tasks"
        raise HandlerLoadError(
            f"Handler module '{name}' is not the name of a module; write it as in `import`, such as '{guess}'."
        )
    try:
        return importlib.import_module(name)
    except HandlerLoadError as error:
        raise HandlerLoadError(f"Handler module '{name}': {error}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise HandlerLoadError(_not_found(name)) from error
        raise HandlerLoadError(f"Handler module '{name}' needs '{error.name}', which is not installed.") from error
    except SystemExit as error:
        raise HandlerLoadError(
            f"Handler module '{name}' ends the process when it is imported (sys.exit); "
            f'put what a script does under `if __name__ == "__main__":`.'
        ) from error
    except Exception as error:  # whatever the user's module does at import
        raise HandlerLoadError(
            f"Handler module '{name}' failed at import: {type(error).__name__}: {_one_line(error)}{_where(name, error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "(no text)"
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[:MAX_ERROR_CHARACTERS]} …"


def _where(name: str, error: BaseException) -> str:
    """The last line of the user's own module, or of what it imports, that was reached."""
    if isinstance(error, SyntaxError):  # its text says where
        return ""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen")]
    own = [one for one in frames[1:] if Path(one.filename).stem in (name.rpartition(".")[2], "__init__")]
    last = (own or frames)[-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


def _handlers_of(module: ModuleType) -> list[Handler[Any, Any]]:
    found = [value for value in vars(module).values() if isinstance(value, Handler)]
    if not found:
        raise HandlerLoadError(f"Handler module '{module.__name__}' has no handlers; decorate functions with @handler.")
    names = [one.name for one in found]
    for one in found:
        if len(one.lines) > 1 and names.count(one.name) == 1:  # the other one is hidden by a function of its name
            lines = " and ".join(map(str, sorted(one.lines)))
            raise HandlerLoadError(
                f"Handler '{one.name}' is defined twice in module '{one.function.__module__}', at lines {lines}; "
                f"rename one."
            )
    return found


def _place(handler: Handler[Any, Any]) -> str:
    return f"{handler.function.__module__}.{handler.function.__qualname__}"
