from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import flipkd_sdk
from flipkd_sdk import errors

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "docs" / "reference.py"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_page_is_up_to_date(reference: Any) -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: python docs/reference.py"


def test_every_public_class_of_the_runtime_is_on_the_page(reference: Any) -> None:
    public = {name for name in flipkd_sdk.__all__ if getattr(flipkd_sdk, name, None).__class__ is type}
    of_the_runtime = {name for name in public if not hasattr(errors, name)}
    assert of_the_runtime == {name for _, name in reference.CLASSES}


SOURCE = '''
class C:
    """Does things.

    More of it.

    Args:
        size: of it.

    Example:
        >>> C()
    """

    def __init__(self, *, size: int = 1) -> None: ...

    def f(self, a: int = 1) -> str:
        """Do ``it``.

        Args:
            a: first of
                many.

        Returns:
            A word.

        Raises:
            E: why.
        """
'''

PAGE = """
    ## C

    ```python
    C(*, size: int=1)
    ```

    Does things.

    More of it.

    Arguments:

    - `size`: of it.

    ```python
    >>> C()
    ```

    ### C.f

    ```python
    f(a: int=1) -> str
    ```

    Do `it`.

    Arguments:

    - `a`: first of many.

    Returns: A word.

    Raises:

    - `E`: why.
"""


def test_arguments_errors_and_examples_are_set_apart(reference: Any, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(SOURCE)
    expected = [*inspect.cleandoc(PAGE).split("\n"), ""]
    assert reference._class(tmp_path / "m.py", "C").split("\n") == expected
