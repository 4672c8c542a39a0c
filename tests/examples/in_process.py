"""Examples run by their `main`, in this process: several times faster than in one of their own, and all else alike."""

import contextlib
import io

import pytest

import tinygrad_seq as tg


def ran(module, folder, *arguments):
    """What is printed by a run that writes its files to a folder."""
    printed = io.StringIO()
    state = tg.random.get_state()
    with tg.random.replaying(state), contextlib.redirect_stdout(printed):
        module.main([*map(str, arguments), "--out", str(folder)])
    return printed.getvalue()


def refused(module, capsys, *arguments):
    """What is said to options that are not accepted."""
    with pytest.raises(SystemExit) as stopped:
        module.main([*map(str, arguments)])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def told(module, capsys):
    """What --help prints."""
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out
