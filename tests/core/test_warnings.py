"""What will soon be gone is an error where our own code asks for it, and only shown where others do."""

import warnings

import pytest

KINDS = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)
OURS = ("lightavseg_core", "lightavseg_core.models.base", __name__, "helpers.tiny")


def function_of(module, text):
    """A function `call` that stands in a module of that name."""
    namespace = {"__name__": module, "warnings": warnings}
    exec(text, namespace)
    return namespace["call"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", OURS)
def test_our_own_code_may_not_use_what_goes(module, kind):
    """As libraries tell it: their function warns in the name of whoever calls it."""
    goes = function_of("torch.somewhere", "def call(kind): warnings.warn('goes', kind, stacklevel=2)")
    ours = function_of(module, "def call(function, kind): function(kind)")
    with pytest.raises(kind, match="goes"):
        ours(goes, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["torch.somewhere", "testsuite", "lightavseg_core_of_others"])
def test_what_others_use_is_shown(module, kind):
    goes = function_of("torch.somewhere", "def call(kind): warnings.warn('goes', kind, stacklevel=2)")
    others = function_of(module, "def call(function, kind): function(kind)")
    with warnings.catch_warnings(record=True) as shown:
        others(goes, kind)
    assert [str(warning.message) for warning in shown] == ["goes"]
