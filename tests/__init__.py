import pytest

pytest.register_assert_rewrite("py_orchestrate.testing")
