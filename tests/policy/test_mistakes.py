"""Twenty mistakes that somebody makes on the first day, and the test that makes each of them.

What each test asks: a message that says what was wrong and what to do, the right exit code,
nothing lost or half-written.
"""

from __future__ import annotations

import ast

import pytest

from tests.policy.sources import ROOT

MISTAKES = {
    "a checkpoint that is a web page, a Git LFS pointer, JSON": (
        "attacks/test_bad_checkpoints.py::test_file_is_refused_when_it_is_no_checkpoint"
    ),
    "a path that does not exist": (
        "attacks/test_bad_checkpoints.py::test_file_is_refused_when_missing_or_a_directory"
    ),
    "torch.save of the whole module": (
        "attacks/test_bad_checkpoints.py::test_whole_module_is_refused_with_the_way_out"
    ),
    "a download that was cut": (
        "attacks/test_bad_checkpoints.py::test_file_is_refused_when_truncated"
    ),
    "a class that is spelt wrong": (
        "compiler/read/test_factories.py::test_model_is_refused_when_the_factory_is_wrong"
    ),
    "an argument that the class does not take": (
        "compiler/read/test_factories.py::test_model_is_refused_when_an_argument_is_unknown"
    ),
    "weights of another depth": (
        "compiler/read/test_read.py::test_weights_are_refused_when_names_do_not_fit"
    ),
    "an input of the wrong shape or type": (
        "compiler/read/test_read.py::test_inputs_are_refused_when_forward_does_not_take_them"
    ),
    "dropout that ignores eval()": (
        "compiler/read/test_export.py::test_random_operator_is_refused_with_its_module"
    ),
    "forward branches on values": (
        "compiler/read/test_export.py::test_control_flow_on_values_is_refused"
    ),
    "a library that is not installed": (
        "tools/test_checked_first.py::test_missing_packages_are_told_before_anything_is_exported"
    ),
    "a slip in front.json": (
        "tools/test_cli_build.py::test_build_points_at_the_mistake_in_the_front"
    ),
    "an output folder that is something else": (
        "tools/test_cli_build.py::test_build_refuses_to_replace_what_is_no_bundle"
    ),
    "a bundle that is already there": (
        "tools/test_cli_build.py::test_build_replaces_a_bundle_only_when_told"
    ),
    "a slip in skipc.toml": "tools/test_cli_init.py::test_a_wrong_file_is_named",
    "weights of no class in the folder": (
        "tools/test_cli_init.py::test_weights_of_no_class_here_are_told_so"
    ),
    "no engines on this machine": (
        "runtime/test_open.py::test_open_names_the_command_when_there_are_no_engines"
    ),
    "a number where a budget is meant": (
        "runtime/test_open.py::test_open_refuses_a_bare_number_as_budget"
    ),
    "a file of the bundle was changed": (
        "attacks/test_bad_bundles.py::test_verify_hashes_refuses_an_altered_file"
    ),
    "a mistake in a call from Python": (
        "tools/test_api.py::test_mistakes_are_told_as_by_the_commands"
    ),
}


def test_there_are_twenty() -> None:
    assert len(set(MISTAKES.values())) == 20


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_its_test(mistake: str) -> None:
    file, _, name = MISTAKES[mistake].partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
