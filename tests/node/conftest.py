"""One node for all tests of a module; every test finds it empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.harness import TestNode, make_node


@pytest.fixture(scope="module")
def module_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    folder: Path = tmp_path_factory.mktemp("node")
    with make_node(folder) as made:
        yield made


@pytest.fixture
def node(module_node: TestNode) -> Iterator[TestNode]:
    yield module_node
    module_node.clean()
