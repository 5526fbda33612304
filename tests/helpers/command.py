"""The command line, in the test's own process."""

import pytest

from lightavseg_core import cli


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `lightavseg ...`."""
    with pytest.raises(SystemExit) as exit:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit.value.code or 0, captured.out, captured.err
